"""What is said about errors of a database, in the words that real servers sent."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from ticketlock.stores.sql import SQLTrackerStore
from ticketlock.stores.sql.errors import translate


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("Lock wait timeout exceeded; try restarting transaction", "another transaction holds"),
        ("canceling statement due to lock timeout", "another transaction holds"),
        ("canceling statement due to statement timeout", "raise that limit"),
        ("Query execution was interrupted (max_statement_time exceeded)", "raise that limit"),
        ("connection timeout expired", "check that the server is reachable"),
    ],
)
def test_a_remedy(said: str, remedy: str) -> None:
    """A server that ends a statement is reachable."""
    error = sa.exc.OperationalError("", {}, Exception(said))
    settings = SQLTrackerStore(db=":memory:").settings
    assert f"{said}; {remedy}" in str(translate(error, settings))
