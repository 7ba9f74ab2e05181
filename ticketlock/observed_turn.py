"""`ObservedTurn`: a turn that reports to observers too."""

from __future__ import annotations

import sys
from typing import Any

from .process import clock
from .telemetry.observer import Written
from .turn import Turn


class ObservedTurn(Turn):
    """A turn that reports claims and commits to observers too."""

    async def _claim_it(self) -> None:
        began = clock()
        error: BaseException | None = None
        try:
            await super()._claim_it()
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = clock() - began
            self.grant.observers.notify("on_claim", self.grant, seconds, error)

    async def _write(self, mark: str | None, events: list[dict[str, Any]]) -> None:
        began = clock()
        written = Written(self.sequence, len(events), self._relay is not None)
        error: BaseException | None = None
        try:
            await super()._write(mark, events)
        except BaseException as raised:
            error = raised
            raise
        finally:
            seconds = clock() - began
            self.grant.observers.notify("on_commit", self.grant, written, seconds, error)

    async def end(self, write: bool) -> None:
        if not write:  # of a thread it is not known what has been raised
            self.lock.note(sys.exc_info()[1] or RuntimeError("the block failed"))
        await super().end(write)

    async def _release(self) -> None:
        self.lock.note(sys.exc_info()[1])  # of the claim, or the last commit
        await super()._release()
