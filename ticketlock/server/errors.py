"""What a request can fail with, and the documented body of an error answer."""

from __future__ import annotations

import logging
import traceback
from http import HTTPStatus
from typing import Any

from .. import errors as e
from ..errors import TicketLockError

log = logging.getLogger("ticketlock")

#: The innermost calls of an unexpected error that are logged, and most characters of them.
_FRAMES, _TRACE = 20, 8000


class RequestError(TicketLockError):
    """A request that gets an error answer.

    Attributes:
        status: the HTTP status code.
        reason: one word for programs.
        retry_after: seconds after which it is worth sending the same request again; None: never.
        close: the connection is of no further use, for instance because a body was left unread.
    """

    status = 400
    reason = "BadRequest"
    retry_after: int | None = None
    close = False


class BadRequest(RequestError):
    """The request itself is wrong."""


class NotAuthenticated(RequestError):
    """No token or JWT that we know came with it."""

    status, reason = 401, "NotAuthenticated"


class NotAuthorized(RequestError):
    """We know who asks; that one may not do this."""

    status, reason = 403, "NotAuthorized"


class NotFound(RequestError):
    status, reason = 404, "NotFound"


class SlowBody(RequestError):
    """The body did not arrive in time."""

    status, reason, close = 408, "RequestTimeout", True


class Conflict(RequestError):
    """The server, or the conversation, is not in a state in which this can be done."""

    status, reason = 409, "Conflict"


class RolledBack(RequestError):
    """A later message took this one's place; nothing of it is kept, and it is not to come again."""

    status, reason = 409, "RolledBack"


class TooMuch(RequestError):
    """A body that was read has too much in it."""

    status, reason = 413, "ContentTooLarge"


class TooLarge(RequestError):
    """A body is too large to be read."""

    status, reason, close = 413, "ContentTooLarge", True


class BotError(RequestError):
    """The bot raised, or yielded what is no reply. Nothing of its turn was kept."""

    status, reason = 500, "ConversationError"


class Overloaded(RequestError):
    """The server has as much to do as it may. The message was not handled here; send it again."""

    status, reason, retry_after = 503, "Overloaded", 1


class BodiesOverloaded(Overloaded):
    """Too much of bodies is being held; the rest of this one is not read."""

    close = True


class TooManyDuplicates(RequestError):
    """Enough requests wait for this message's reply already."""

    status, reason, retry_after = 429, "QueueFull", 1


class Draining(RequestError):
    """The server is about to end. The message was not handled here; send it again."""

    status, reason, retry_after, close = 503, "Draining", 1, True


class TurnTimeout(RequestError):
    """The reply is not there yet, but the turn goes on: the same message id will get it."""

    status, reason, retry_after = 504, "Timeout", 1


#: Error class -> (status, reason, seconds after which to try again); the first that fits.
_STATUS: list[tuple[type[Exception], int, str, int | None]] = [
    (e.InvalidConversationId, 400, "BadRequest", None),
    (e.InvalidEvent, 400, "BadRequest", None),
    (e.LockTimeout, 409, "Busy", 1),
    (e.EventsWaiting, 409, "Conflict", 1),
    (e.QueueFull, 429, "QueueFull", 1),
    # Of these nothing was written, or the same message id gets what was.
    (e.LockLost, 503, "LockLost", 1),
    (e.StaleFence, 503, "LockLost", 1),
    (e.UnreadableHistory, 500, "UnreadableHistory", None),
    (e.LockStoreConnectionError, 503, "LockStoreUnavailable", 2),
    (e.TrackerStoreConnectionError, 503, "TrackerStoreUnavailable", 2),
    (e.EventBrokerError, 503, "EventBrokerUnavailable", 2),
    (e.LockError, 503, "LockError", 1),
]


def classify(error: Exception) -> tuple[int, str, int | None]:
    """Status code, reason, and seconds after which to try again, of any error."""
    if isinstance(error, RequestError):
        return error.status, error.reason, error.retry_after
    for kind, status, reason, again in _STATUS:
        if isinstance(error, kind):
            return status, reason, again
    return 500, "ConversationError", None


def failure(status: int, reason: str, message: str) -> dict[str, Any]:
    """The documented body of every answer that is an error."""
    from .. import __version__

    return {
        "version": __version__,
        "status": "failure",
        "message": message,
        "reason": reason,
        "details": {},
        "help": None,
        "code": status,
    }


#: What the client reads instead of a text that names places in a store.
_UNREADABLE = (
    "what is stored of this conversation cannot be read; the log of the server says where and why"
)


def shown(error: Exception) -> bool:
    """Whether the client may read the text: not that of a store, which names hosts and users."""
    if isinstance(error, (RequestError, e.LockLost, e.StaleFence)):
        return True
    return isinstance(error, TicketLockError) and classify(error)[0] < 500


def describe(error: Exception) -> dict[str, Any]:
    """The error as a body; what is not for the client is logged instead."""
    status, reason, _ = classify(error)
    if shown(error):
        return failure(status, reason, str(error))
    ours = isinstance(error, TicketLockError)
    log.warning("answered %d: %s%s", status, error, "" if ours else _trace(error))
    unreadable = isinstance(error, e.UnreadableHistory)
    return failure(status, reason, _UNREADABLE if unreadable else HTTPStatus(status).phrase)


def _trace(error: Exception) -> str:
    """Where an error comes from, in some lines: of endless recursion there are thousands."""
    lines = "".join(traceback.format_exception(type(error), error, error.__traceback__, -_FRAMES))
    return "\n" + lines[-_TRACE:]


def headers(error: Exception) -> dict[str, str]:
    """The headers that go with the error."""
    status, _, again = classify(error)
    made = {} if again is None else {"retry-after": str(again)}
    if isinstance(error, RequestError) and error.close:
        made["connection"] = "close"
    if status == 401:
        made["www-authenticate"] = "Bearer"
    return made
