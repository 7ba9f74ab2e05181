"""Which of MongoDB's errors are an outage, which passes. The codes are those of its documentation."""

from __future__ import annotations

import pytest
from pymongo.errors import (
    BulkWriteError,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
    WTimeoutError,
)
from ticketlock.stores.mongo.errors import explained

from ticketlock.errors import TrackerStoreConnectionError, TrackerStoreError


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotPrimaryError("not primary", {"code": 10107}), "it is no longer the primary"),
        # A primary that steps down while it waits for the others: whether the write stays is unknown.
        (WriteConcernError("interrupted", 11602, {"code": 11602}), "it is no longer the primary"),
        (WriteConcernError("stepped down", 189, {"code": 189}), "it is no longer the primary"),
        (OperationFailure("going to quiesce", 91), "it is no longer the primary"),
        (WTimeoutError("waiting for replication timed out", 64), "too few members have confirmed"),
        (WriteConcernError("not enough data-bearing nodes", 100), "the replica set has too few members"),
        (OperationFailure("exceeded time limit", 262), "it took too long"),
        (BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 91}]}),
         "it is no longer the primary"),
        (BulkWriteError({"writeErrors": [{"code": 11602}], "writeConcernErrors": []}),
         "it is no longer the primary"),
    ],
    ids=lambda one: f"{type(one).__name__} {getattr(one, 'code', '')}",
)  # fmt: skip
def test_an_outage(error: PyMongoError, said: str) -> None:
    found = explained("m", error)
    assert type(found) is TrackerStoreConnectionError
    assert f"MongoDB at m: {said}" in str(found)


@pytest.mark.parametrize(
    "error",
    [
        OperationFailure("not authorized", 13, {"code": 13}),
        OperationFailure("document is too large", 17280, {"code": 17280}),
        BulkWriteError({"writeErrors": [{"code": 11000}], "writeConcernErrors": []}),
    ],
    ids=lambda error: str(error.details),
)
def test_no_outage(error: PyMongoError) -> None:
    """Waiting does not help."""
    assert type(explained("m", error)) is TrackerStoreError
