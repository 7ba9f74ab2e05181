"""Errors: the status, the reason and the advice that a client gets."""

from __future__ import annotations

import pytest
from error_classes import every_error

from ticketlock.errors import (
    EventBrokerError,
    EventsWaiting,
    InvalidConversationId,
    InvalidEvent,
    LockError,
    LockLost,
    LockStoreConnectionError,
    LockTimeout,
    QueueFull,
    StaleFence,
    TrackerStoreConnectionError,
    TrackerStoreError,
)
from ticketlock.server.errors import (
    _STATUS,
    CONTENDED,
    RequestError,
    classify,
    describe,
    failure,
)

ERROR_KEYS = {"version", "status", "message", "reason", "details", "help", "code"}


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LockTimeout("c", 1), 409),
        (QueueFull("c", 5), 429),
        (LockLost("c", "why"), 503),
        (StaleFence("c", 1, 2), 503),
        (LockStoreConnectionError("away"), 503),
        (TrackerStoreConnectionError("away"), 503),
        (TrackerStoreError("broken"), 500),
        (EventsWaiting("c"), 409),
        (InvalidConversationId("c"), 400),
        (InvalidEvent("c"), 400),
        (EventBrokerError("c"), 503),
        (LockError("c"), 503),
        (RuntimeError("hunter2"), 500),
    ],
)
def test_errors_have_a_status(error: Exception, status: int) -> None:
    """Each of ours; those worth a retry say when; a strange one's text is not shown."""
    assert classify(error)[0] == status
    assert (classify(error)[2] is not None) == (status in (409, 429, 503))
    body = describe(error)
    assert set(body) == ERROR_KEYS
    assert (body["code"], body["status"]) == (status, "failure")
    assert "hunter2" not in body["message"]


def test_a_stores_error_is_logged_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """Its text names hosts and users: that is for the operator."""
    body = describe(TrackerStoreConnectionError("PostgreSQL at db.internal"))
    assert body["message"] == "Service Unavailable"
    assert "db.internal" in caplog.text
    assert "stuck" in describe(LockLost("c", "stuck"))["message"]


def test_every_refusal_says_what_to_do() -> None:
    """Of those with details, whose text the client may not see."""
    reasons = {(reason, status) for _, status, reason, _ in _STATUS}
    reasons |= {
        (kind.reason, kind.status) for kind in every_error() if issubclass(kind, RequestError)
    }
    refusals = [each for each in reasons if each[1] in CONTENDED]
    assert ("OldReplicas", 503) in refusals
    assert [each for each in refusals if failure(each[1], each[0], "")["help"] is None] == []
