"""What operators do with messages of the inbox: withdraw them; resend or drop dead letters."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from ...inbox.inbox import Inbox
from ...inbox.submission import Letter, LetterKind
from .audit import Audit, AuditRecord

Action = Literal["withdraw", "resend", "drop"]
ACTIONS: tuple[Action, ...] = get_args(Action)
#: Messages and dead letters that the page lists.
SHOWN = 100
#: Most characters of a reason.
_TEXT = 300
_NOT_WITHDRAWN = {
    "begun": "not withdrawn: its turn has begun",
    "finished": "not withdrawn: it is finished",
    "unknown": "not withdrawn: the conversation has no message of that id",
}


@dataclass(frozen=True)
class Target:
    """The object of an action: a message that waits, or a dead letter."""

    conversation: str
    message_id: str
    kind: LetterKind = "message"


async def act(inbox: Inbox, action: Action, target: Target) -> tuple[bool, str]:
    """Do it; returns whether that was possible, and the result as a text.

    Raises LockStoreConnectionError.
    """
    name, message_id, kind = target.conversation, target.message_id, target.kind
    if action == "withdraw":
        found = await inbox.withdraw(name, message_id)
        return found == "withdrawn", _NOT_WITHDRAWN.get(found, found)
    if action == "drop":
        done, verb = await inbox.drop(name, message_id, kind), "dropped"
    else:
        verb = "resent"
        try:
            done = await inbox.resend(name, message_id, kind)
        except ValueError as error:
            return False, f"not resent: {error}"
    return done, verb if done else f"not {verb}: it is not a dead letter"


async def settle(
    inbox: Inbox, audit: Audit, action: Action, targets: Sequence[Target], record: AuditRecord
) -> dict[str, Any]:
    """Do it for several, each with a line of the audit.

    Returns how many were `done` and `left`, and the last `problem`.
    """
    done, problem = 0, ""
    for target in targets:
        good, text = await act(inbox, action, target)
        done += good
        problem = problem if good else text
        what = f"{'replies to ' * (target.kind == 'delivery')}message {target.message_id!r}: {text}"
        await audit.note(replace(record, conversation=target.conversation, what=what))
    return {"done": done, "left": len(targets) - done, "problem": problem}


def letter_row(letter: Letter, now: float) -> dict[str, Any]:
    """A dead letter for the page, without its text.

    Args:
        now: seconds since the epoch.
    """
    return {
        "conversation": letter.conversation_id, "message_id": letter.message_id,
        "kind": letter.kind, "number": letter.number,
        "reason": reason_of(letter)[:_TEXT], "ago": max(0.0, now - letter.died / 1000),
    }  # fmt: skip


def reason_of(letter: Letter) -> str:
    """Why it is dead, in words: the reason may be JSON, as of an error that the client gets."""
    try:
        found = json.loads(letter.reason)
        return str(found["message"])
    except (ValueError, TypeError, KeyError):
        return letter.reason
