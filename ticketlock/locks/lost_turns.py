"""Why turns are lost: the texts of `Grant.reason`, each with its cause in a word, and the log's.

Their error is `LockLost` in `ticketlock/errors.py`.
"""

from __future__ import annotations

from ..errors import CLOSED, CLOSING

#: Why a turn is none of a child's, which has a copy of it.
FORKED = "a forked child does not inherit the turn"
#: Its lock store, or event loop, is gone.
LOOP_CLOSED = "its event loop was closed"
NEVER_LEFT = "its `with` block was interrupted and never left"
#: An operator, or another client, has ended it.
BROKEN = "the lock was broken, or its ticket was finished"
#: Its lease was not renewed in time, or it was wiped from Redis.
NOT_RENEWED = "its lease ran out: no renewal was confirmed in time"
NOT_FOUND = "the lease ran out, or the lock was broken or wiped"
GRANTED_ANEW = "it was granted to another ticket: the lease ran out, or the lock was broken"
TICKET_GONE = "its ticket is gone: it expired, or the lock was broken"
BEFORE_ITS_FENCE = "its lease ran out before its fence could be raised"

#: The warning: conversation, label, ticket number, seconds, reason, remedy.
WARNING = "lost the lock of conversation %r%s, ticket %d, held for %.1f s: %s%s"

_CAUSES = {CLOSED: "closed", CLOSING: "closed", LOOP_CLOSED: "closed", BROKEN: "broken"}


def too_slow(lock_lifetime: float) -> str:
    """Why a turn is lost that outlived its lifetime."""
    return f"its lock_lifetime of {lock_lifetime:g} s is over"


def cause(reason: str | None, lock_lifetime: float) -> str:
    """`too_slow`, `broken`, `closed` or `lease`; empty while a turn is held."""
    if reason is None:
        return ""
    return "too_slow" if reason == too_slow(lock_lifetime) else _CAUSES.get(reason, "lease")
