"""Which tests share a worker."""

from __future__ import annotations

import pytest
from workers import GROUPS, group, place


@pytest.mark.parametrize(
    ("nodeid", "expected"),
    [
        ("tests/contract/test_turns.py::test_x[redis-cluster-in_memory]", "redis-cluster"),
        ("tests/contract/test_turns.py::test_x[redis-in_memory]", None),
        ("tests/contract/test_event_brokers.py::test_x[kafka-object]", "kafka"),
        ("tests/integration/test_kafka_broker.py::test_x", "kafka"),
        ("tests/integration/test_event_service.py::test_a_missing_kafka_topic", "kafka"),
        ("tests/integration/test_config_brokers.py::test_pika", "pika"),
        ("tests/integration/test_server.py::test_x[deadline]", "bot-server"),
        ("tests/integration/test_sql_store.py::test_x[mariadb]", "mariadb"),
        ("tests/integration/test_sql_store.py::test_x", "postgres"),
        ("tests/integration/test_demo_stores.py::test_x[mongo]", "demo"),
        ("tests/faults/test_tracker_kill.py::test_x[large-dynamo]", "dynamo"),
        ("tests/unit/demo/test_demo.py::test_x[kafka]", None),
    ],
)
def test_groups(nodeid: str, expected: str | None) -> None:
    """The server that a test needs, or its file, decides."""
    assert group(nodeid) == expected
    assert place(nodeid) == (GROUPS.index(expected) if expected else len(GROUPS))
