"""The errors of requests, and the documented body of an error answer."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from .. import errors as e
from ..errors import TicketLockError

log = logging.getLogger("ticketlock.server")

TooManyAttempts = e.TooManyAttempts

#: Most frames, and characters, of the traceback of an unexpected error.
_FRAMES, _TRACE = 20, 8000


class RequestError(TicketLockError):
    """A request that gets an error answer.

    Attributes:
        status: the HTTP status code.
        reason: a word for programs.
        retry_after: seconds after which the request can be sent again; None: do not.
        close: whether the connection is closed, for instance because a body was not read.
    """

    status = 400
    reason = "BadRequest"
    retry_after: int | None = None
    close = False


class BadRequest(RequestError):
    """The request is invalid."""


class NotAuthenticated(RequestError):
    """It has no valid token or JWT."""

    status, reason = 401, "NotAuthenticated"


class NotAuthorized(RequestError):
    """Its token or JWT does not allow this."""

    status, reason = 403, "NotAuthorized"


class NotFound(RequestError):
    status, reason = 404, "NotFound"


class NotAcceptable(RequestError):
    """There is no answer of the type that the request accepts."""

    status, reason = 406, "NotAcceptable"


class SlowBody(RequestError):
    """The body did not arrive in time."""

    status, reason, close = 408, "RequestTimeout", True


class Conflict(RequestError):
    """The state of the server or of the conversation does not allow this."""

    status, reason = 409, "Conflict"


class RolledBack(RequestError):
    """A later message took its place: nothing of it is stored. Do not send it again."""

    status, reason = 409, "RolledBack"


class TooMuch(RequestError):
    """A body exceeds a limit other than its size."""

    status, reason = 413, "ContentTooLarge"


class TooLarge(RequestError):
    """A body is too large."""

    status, reason, close = 413, "ContentTooLarge", True


class BotError(RequestError):
    """The bot raised, or yielded an invalid reply. Nothing of its turn is stored."""

    status, reason = 500, "ConversationError"


class Overloaded(RequestError):
    """The server is at a limit. The message was not handled; send it again."""

    status, reason, retry_after = 503, "Overloaded", 1


class BodiesOverloaded(Overloaded):
    """The budget for bodies is used up; the rest of this one is not read."""

    close = True


class NotSubmitted(RequestError):
    """A channel's message was not accepted. The vendor sends it again."""

    status, reason, retry_after = 503, "NotSubmitted", 2


class TooManyDuplicates(RequestError):
    """Too many requests wait for the reply to this message."""

    status, reason, retry_after = 429, "QueueFull", 1


class Withdrawn(RequestError):
    """The message was withdrawn before its turn. Do not send it again."""

    status, reason = 409, "Withdrawn"


class Failed(RequestError):
    """The message failed in the turn of another replica.

    Args:
        body: the body of the error answer there, or its text.
    """

    def __init__(self, body: Mapping[str, Any] | str) -> None:
        super().__init__(body)
        values: Mapping[str, Any] = {"message": body} if isinstance(body, str) else body
        self.text = str(values.get("message", "the message failed"))
        self.status = int(values.get("code", 500))
        self.reason = str(values.get("reason", "ConversationError"))
        self.retry_after = 1 if self.status in (429, 503) else None
        add_details(self, values.get("details", {}))

    def __str__(self) -> str:
        return self.text


class TurnTooSlow(RequestError):
    """The turn outlived its `lock_lifetime` and was given up; a retry will likely fail too."""

    status, reason = 504, "TurnTooSlow"


class Draining(RequestError):
    """The server is stopping. The message was not handled; send it again."""

    status, reason, retry_after, close = 503, "Draining", 1, True


class TurnTimeout(RequestError):
    """There is no reply yet, but the turn goes on: send the same message id to get it."""

    status, reason, retry_after = 504, "Timeout", 1


#: Error class -> (status, reason, seconds until a retry); the first match counts.
_STATUS: list[tuple[type[Exception], int, str, int | None]] = [
    (e.InvalidConversationId, 400, "BadRequest", None),
    (e.InvalidEvent, 400, "BadRequest", None),
    (e.LockTimeout, 409, "Busy", 1),
    (e.TooManyAttempts, 409, "TooManyAttempts", None),
    (e.EventsWaiting, 409, "EventsWaiting", 1),
    (e.QueueFull, 429, "QueueFull", 1),
    # Nothing was written, or the same message id gets the stored reply.
    (e.LockLost, 503, "LockLost", 1),
    (e.StaleFence, 503, "LockLost", 1),
    (e.UnreadableHistory, 500, "UnreadableHistory", None),
    (e.NotDurable, 503, "NotDurable", 2),
    (e.LockStoreConnectionError, 503, "LockStoreUnavailable", 2),
    (e.TrackerStoreConnectionError, 503, "TrackerStoreUnavailable", 2),
    (e.EventBrokerError, 503, "EventBrokerUnavailable", 2),
    (e.ActionServerConnectionError, 503, "ActionServerUnavailable", 2),
    (e.ActionError, 500, "ActionFailed", None),
    (e.OldReplicas, 503, "OldReplicas", 5),
    (e.LockError, 503, "LockError", 1),
]


def classify(error: Exception) -> tuple[int, str, int | None]:
    """Status code, reason, and seconds until a retry, of any error."""
    if isinstance(error, RequestError):
        return error.status, error.reason, error.retry_after
    for kind, status, reason, again in _STATUS:
        if isinstance(error, kind):
            return status, reason, again
    return 500, "ConversationError", None


#: Statuses whose answers have details of the conversation; see `Situation`.
CONTENDED = (409, 429, 503, 504)

#: Reason -> advice for the client.
_HINTS = {
    "NotFound": "check the path, and the name or id that the message says; /openapi.json lists the paths",
    "MethodNotAllowed": "the header Allow has the methods of this path; /openapi.json describes them",
    "Busy": "another message of the conversation is being handled; send this one again later",
    "QueueFull": "wait for the replies to earlier messages before sending more, or raise max_waiting",
    "EventsWaiting": "send it again when the event broker has confirmed the conversation's events",
    "Conflict": "sending it again does not help; the message says what this server cannot do",
    "Withdrawn": "do not send it again: it was taken back before its turn",
    "RolledBack": "do not send it again: a later message has taken its place",
    "TooManyAttempts": "do not send it again: find in the server's log why its turns do not end, or "
    "send it as a new message; max_attempts says how often one is tried",
    "TurnTooSlow": "sending it again does not help by itself: make the bot faster, or raise "
    "lock_lifetime",
    "OldReplicas": "replicas of a version before 0.5.0 run, which do not know the inbox: send it "
    "again when the roll is over, or without async=true",
    "NotSubmitted": "the vendor sends it again; the server's log says why it was not accepted",
    "Overloaded": "send it again later with the same message_id; a limit of this replica is reached",
    "LockLost": "send it again with the same message_id: it is handled unless it was already",
    "LockError": "send it again with the same message_id",
    "LockStoreUnavailable": "send it again with the same message_id; the lock store did not answer",
    "NotDurable": "send it again with the same message_id: it may have been accepted; the replicas of "
    "the lock store take too long",
    "TrackerStoreUnavailable": "send it again with the same message_id: what was stored is not "
    "stored twice",
    "EventBrokerUnavailable": "send it again with the same message_id",
    "ActionServerUnavailable": "send it again with the same message_id; the action server did not "
    "answer",
    "Draining": "send it again, with the same message_id if it has one: another replica takes it",
    "Timeout": "the turn continues: send it again with the same message_id to get its reply",
}


def add_details(error: Exception, details: Mapping[str, Any]) -> None:
    """Add details to the answer to an error."""
    vars(error).setdefault("_details", {}).update(details)


def failure(
    status: int, reason: str, message: str, details: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The documented body of an error answer.

    With a status of `CONTENDED`, its details have `holder_alive`, `held_for` and `ahead` (null if
    unknown) and a `hint`.
    """
    from .. import __version__

    given, hint = dict(details or {}), _HINTS.get(reason)
    if status in CONTENDED:
        given = {"holder_alive": None, "held_for": None, "ahead": None, "hint": hint, **given}
    return {
        "version": __version__,
        "status": "failure",
        "message": message,
        "reason": reason,
        "details": given,
        "help": hint,
        "code": status,
    }


#: For clients, instead of a text with addresses in a store.
_UNREADABLE = (
    "the stored history of this conversation cannot be read; the server's log says where and why"
)


def shown(error: Exception) -> bool:
    """Whether the client may see the text; texts of stores name hosts and users."""
    if isinstance(error, (RequestError, e.LockLost, e.StaleFence)):
        return True
    return isinstance(error, TicketLockError) and classify(error)[0] < 500


def describe(error: Exception) -> dict[str, Any]:
    """The body of an error answer; a text that is not for the client is logged, if it was not before."""
    status, reason, _ = classify(error)
    details = vars(error).get("_details")
    if shown(error):
        return failure(status, reason, str(error), details)
    if not was_logged(error):
        log.warning("answered %d: %s", status, logged(error))
    unreadable = isinstance(error, e.UnreadableHistory)
    text = _UNREADABLE if unreadable else HTTPStatus(status).phrase
    return failure(status, reason, text, details)


def logged(error: Exception) -> str:
    """The text of an error that is about to be logged, and the end of an unexpected one's traceback.

    `describe` logs it no more.
    """
    vars(error)["_logged"] = True
    if isinstance(error, TicketLockError):
        return str(error)
    # That of an endless recursion has thousands of lines.
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__, -_FRAMES))
    return f"{error}\n{lines[-_TRACE:]}"


def was_logged(error: Exception) -> bool:
    """Whether its text is in the log."""
    return bool(vars(error).get("_logged"))


def headers(error: Exception) -> dict[str, str]:
    """The headers of an error answer."""
    status, _, again = classify(error)
    made = {} if again is None else {"retry-after": str(again)}
    if isinstance(error, RequestError) and error.close:
        made["connection"] = "close"
    if status == 401:
        made["www-authenticate"] = "Bearer"
    return made
