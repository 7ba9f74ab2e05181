"""Messages of a run: workers submit and handle them, and the stored histories say what became of them."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..checker import Operation, Recorder
from ..conversations import Conversations
from ..errors import LockError, LockStoreConnectionError
from ..events.event import Event
from ..locks.store import LockStore
from ..process import clock
from ..settings.store_keys import RedisLockKeys
from ..tracker.store import TrackerStore
from ..turn import Turn
from .plan import Plan
from .register import Registers
from .task import PAUSE, Task

#: Turns of one worker at once.
_ROOM = 50


class Sender(Task):
    """Submits messages."""

    _count = 0

    async def step(self, conversation: str) -> None:
        """Submit one; where the answer is missing it may have been accepted."""
        self._count += 1
        name = f"{self.name}-{self._count}"
        call = self.recorder.invoke("submit", self.name, conversation, message=name)
        try:
            await self.conversations.submit(conversation, name, message_id=name)
        except LockStoreConnectionError:
            call.unknown()
            await asyncio.sleep(PAUSE)
        except asyncio.CancelledError:
            call.unknown()
            raise
        except LockError:
            call.fail()
        else:
            call.ok()

    def __init__(self, conversations: Conversations, *args: Any) -> None:
        super().__init__(*args)
        self.conversations = conversations


async def serve(
    plan: Plan, store: LockStore, names: Sequence[str], registers: Registers,
    recorder: Recorder, end: float, folder: Path,
) -> None:  # fmt: skip
    """Submit messages until a moment of `clock()`, and handle them until none is left."""
    numbers = itertools.count()

    async def handle(turn: Turn, message: Mapping[str, Any]) -> None:
        begun = clock()
        # A turn of its own to the checker: one that was lost may still be left while the next begins.
        task = Task(f"{names[0]} turn {next(numbers)}", plan, store, registers, recorder)
        call = recorder.invoke("begin", task.name, turn.sender_id, message=message["message_id"])
        call.ok(fence=turn.fence, lease_until=turn.grant.deadline)
        await task.hold(turn.sender_id, turn.grant)
        said = json.dumps([message["message_id"], task.name, begun, clock()])
        turn.add({"event": "user", "text": said})

    conversations = Conversations(store, plan.tracker_store)
    async with conversations, conversations.serving(handle, room=_ROOM):
        await asyncio.gather(
            *(
                Sender(conversations, name, plan, store, registers, recorder).run(end)
                for name in names
            )
        )
        while not (folder / "drained").exists():  # noqa: ASYNC110  # another process makes it
            await asyncio.sleep(0.05)


def tracker_section(section: Mapping[str, Any]) -> dict[str, Any]:
    """A tracker store on the Redis of a lock store's section."""
    keys = {key: value for key, value in section.items() if key in RedisLockKeys.__annotations__}
    return {**keys, "type": "redis"}


async def finished(
    tracker_store: TrackerStore, names: Sequence[str], end: float
) -> list[Operation]:
    """The messages that are stored, in the order in which they were.

    A turn that is stored was so before the next one that is stored began.
    """
    found = []
    for name in names:
        tracker = await tracker_store.retrieve_full_tracker(name)
        events: Sequence[Event] = () if tracker is None else tracker.events
        values = [event.as_dict() for event in events]
        said = [json.loads(one["text"]) for one in values if one["event"] == "user"]
        begins = [begun for _, _, begun, _ in said[1:]]
        for (message, process, _, left), until in zip(said, [*begins, end], strict=False):
            found.append(
                Operation("finish", process, name, left, max(left, until), "ok", message=message)
            )
    return found


async def drained(store: LockStore, names: Sequence[str], seconds: float) -> bool:
    """Wait until no conversation has a turn or a ticket; False if none has ended for that time."""
    end, fewest = clock() + seconds, math.inf
    while clock() < end:
        states = await asyncio.gather(*(store.inspect(name) for name in names))
        left = sum(state.waiting_count + (state.holder is not None) for state in states)
        if not left:
            return True
        if left < fewest:
            end, fewest = clock() + seconds, left
        await asyncio.sleep(0.2)
    return False
