"""Stopping the work of a turn when a later message asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..aio.running import until_done
from .grant import Grant
from .incoming import Supersede


async def unless_superseded(
    grant: Grant, work: Coroutine[Any, Any, None], *, stops: bool = True
) -> Supersede | None:
    """Do the work of a turn; cancel it, once, when a later message asks the turn to stop.

    In `Turn.shield` it is cancelled as soon as that is left; without `stops` it is not. Returns None if the work was done, else
    how it was asked to stop. Raises the error of the work; RuntimeError if it raised
    KeyboardInterrupt or SystemExit, or was cancelled otherwise.
    """
    if stops and grant.superseded is not None:  # before the turn began
        work.close()
        return grant.superseded
    working = asyncio.ensure_future(_contained(work))
    grant.on_stop = working.cancel if stops else None
    try:
        await until_done(working)
    finally:
        grant.on_stop = None
        if not working.done():  # also if this task is cancelled
            working.cancel()
            await until_done(working)
    if working.cancelled():
        if not stops or grant.superseded is None:
            raise RuntimeError(
                "the work of a turn was cancelled by something that it awaited, not because its turn "
                "was stopped"
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
    return RuntimeError(f"the work of a turn raised {error!r}, which is meant to end a program")
