"""A bot's work, until it has ended or a later message asks it to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..locks.grant import Grant
from ..locks.incoming import Supersede


async def unless_superseded(grant: Grant, work: Coroutine[Any, Any, None]) -> Supersede | None:
    """Do the work of a turn; cancel it when the turn is asked to stop.

    Returns None when the work was done, else how it was asked to stop. Raises what it raised;
    RuntimeError when that would end the server, or when something else has cancelled it.
    """
    if grant.superseded is not None:  # before it was its turn: there is nothing to begin
        work.close()
        return grant.superseded
    working = asyncio.ensure_future(_contained(work))
    asked = asyncio.ensure_future(grant.until_superseded())
    try:
        await asyncio.wait([working, asked], return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked.cancel()
        if not working.done():  # also when we are cancelled ourselves
            working.cancel()
            await asyncio.wait([working])
    if working.cancelled():
        if grant.superseded is None:
            raise RuntimeError("it was cancelled by something that it awaits, not by its turn")
        return grant.superseded
    error = working.exception()
    if error is not None and not isinstance(error, Exception):
        raise _ended(error) from error
    working.result()
    return None


async def _contained(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; what asyncio would end the server for is an error of the work alone."""
    try:
        await work
    except (KeyboardInterrupt, SystemExit) as error:
        raise _ended(error) from error


def _ended(error: BaseException) -> RuntimeError:
    return RuntimeError(f"the bot raised {error!r}, which is meant to end a program")
