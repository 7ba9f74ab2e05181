"""One replica of the demo's bot server: `python -m ticketlock.demo.replica`.

It reads its settings as one JSON line from stdin, listens on 127.0.0.1, writes its port as
one JSON line to stdout, and serves until stdin ends: it never outlives the demo. Settings
come by stdin because they may hold passwords, and a command line can be seen by all.

A connection carries JSON lines both ways. A message is answered twice: `accepted` once its
place in the queue is certain, and `done` once it has been handled (or `failed`: send again).
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..conversations import Conversations
from ..errors import TicketLockError
from ..registry import create_lock_store, create_tracker_store
from ..turn import Turn
from .bot import EchoBot, UnlockedTurn
from .records import Records
from .traffic import Message

#: Longest line on a connection, bytes.
LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What a replica is told when it starts.

    Attributes:
        name: tells this process from every other one, its own restarts included.
        lock_store, tracker_store: sections, as in `endpoints.yml`.
        event_broker: section of what the relay publishes to; None: nothing is published.
        folder: where the records are.
        unlocked: take no lock and no fence at all, to see what the demo says then.
    """

    name: str
    lock_store: dict[str, Any]
    tracker_store: dict[str, Any]
    folder: str
    unlocked: bool = False
    event_broker: dict[str, Any] | None = None

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Server:
    """Takes messages from connections and gives each to the bot in its turn.

    Attributes:
        broken: gets what a message caused that is no fault of a lock or a store.
    """

    def __init__(self, settings: Settings, conversations: Conversations) -> None:
        self._unlocked = settings.unlocked
        self._conversations = conversations
        self._bot = EchoBot(Records(Path(settings.folder)), settings.name)
        self._tasks: set[asyncio.Task[None]] = set()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            task = asyncio.create_task(self._take(Message(**json.loads(line)), writer))
            self._tasks.add(task)
            task.add_done_callback(self._ended)
        writer.close()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self.broken.done():
            self.broken.set_exception(error)

    async def _take(self, message: Message, writer: asyncio.StreamWriter) -> None:
        def answer(kind: str, **more: object) -> None:
            line = json.dumps({"message": message.id, "answer": kind, **more})
            writer.write(line.encode() + b"\n")

        try:
            await self._serve(message, answer)
        except TicketLockError as error:
            answer("failed", why=str(error))
        else:
            answer("done", reply=message.text)

    async def _serve(self, message: Message, answer: Callable[..., None]) -> None:
        turn = self._turn(message)
        number = await turn.queue()
        answer("accepted")
        async with turn:
            await self._bot.handle(message, turn, number)

    def _turn(self, message: Message) -> Turn | UnlockedTurn:
        if self._unlocked:
            return UnlockedTurn(self._conversations.tracker_store, message.conversation)
        return self._conversations.turn(message.conversation, label=f"message {message.id}")


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    stdin = await _stdin()
    settings = Settings(**json.loads(await stdin.readline()))
    locks, tracker = settings.lock_store, settings.tracker_store
    made = create_lock_store(locks), create_tracker_store(tracker)
    async with Conversations(*made, settings.event_broker) as stores:
        await stores.tracker_store.connect()
        replica = Server(settings, stores)
        server = await asyncio.start_server(replica.connected, "127.0.0.1", 0, limit=LONGEST_LINE)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        ends: list[asyncio.Future[Any]] = [asyncio.ensure_future(stdin.read()), replica.broken]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if replica.broken.done():
            replica.broken.result()
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
