"""Double texting: what a message does while another one of its conversation is being handled.

A policy is chosen by `double_texting` in the section `server`, or by a message for itself. To add
one: name it in `Policy` and in `Mode` of `inbox/submission.py`, and say in `check_policy` what it
needs. How turns are stopped is `Supersede` in `locks/incoming.py`; what becomes of
their replies is in `bot_runner.py`. `docs/guides/webhooks.md` says what each policy does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, get_args

from ..inbox.submission import Mode
from ..locks.grant import Grant
from ..locks.incoming import Supersede
from ..locks.store import LockStore
from .errors import BadRequest

#: `enqueue`: it waits for its turn. `reject`: it is answered 409. `coalesce`: messages that wait
#: are handled in one turn. `interrupt`, `rollback`: the turns before it are asked to stop, and
#: what they have said is stored, or not.
Policy = Literal["enqueue", "reject", "coalesce", "interrupt", "rollback"]
POLICIES: tuple[str, ...] = get_args(Policy)


def check_policy(policy: str, store: LockStore) -> None:
    """Raise BadRequest if the lock store does not support a policy."""
    if policy not in ("enqueue", "reject") and not store.keeps_messages:
        raise BadRequest(
            f"double_texting: {type(store).__name__} supports only enqueue and "
            "reject; use in_memory or concurrent_redis for the others"
        )


def mode(policy: str) -> Mode:
    """How a message of that policy is submitted; `reject` is enqueued at once or not at all."""
    return "enqueue" if policy == "reject" else policy  # type: ignore[return-value]  # checked


async def unless_superseded(grant: Grant, work: Coroutine[Any, Any, None]) -> Supersede | None:
    """Do the work of a turn; cancel it, once, when a later message asks the turn to stop.

    In `Turn.shield` it is cancelled as soon as that is left. Returns None if the work was done, else how it was asked to stop. Raises the error of the
    work; RuntimeError if the bot raised KeyboardInterrupt or SystemExit, or was cancelled otherwise.
    """
    if grant.superseded is not None:  # before the turn began
        work.close()
        return grant.superseded
    working = asyncio.ensure_future(_contained(work))
    grant.on_stop = working.cancel
    try:
        await asyncio.wait([working])
    finally:
        grant.on_stop = None
        if not working.done():  # also if this task is cancelled
            working.cancel()
            await asyncio.wait([working])
    if working.cancelled():
        if grant.superseded is None:
            raise RuntimeError(
                "the bot was cancelled by something that it awaited, not because its turn was stopped"
            )
        return grant.superseded
    error = working.exception()
    if error is not None and not isinstance(error, Exception):
        raise _ended(error) from error
    working.result()
    return None


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; errors for which asyncio would end the server become its own."""
    try:
        await work
    except (KeyboardInterrupt, SystemExit) as error:
        raise _ended(error) from error


def _ended(error: BaseException) -> RuntimeError:
    return RuntimeError(f"the bot raised {error!r}, which is meant to end a program")
