"""A section of a turn in which a later message does not stop it."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Shielded(Protocol):
    """What a shield asks of its turn.

    Attributes:
        shields: how many are entered.
    """

    shields: int

    def ask_to_stop(self) -> bool: ...


class Shield:
    """`async with turn.shield():`; it may be entered again, also inside itself."""

    __slots__ = ("_turn",)

    def __init__(self, turn: Shielded) -> None:
        self._turn = turn

    async def __aenter__(self) -> None:
        self._turn.shields += 1

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._turn.shields -= 1
        # An exception of the block is not replaced by the cancellation.
        if self._turn.ask_to_stop() and error is None:
            await asyncio.sleep(0)  # the cancellation is raised here, not at a later `await`
