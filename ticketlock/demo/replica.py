"""One replica of the demo's bot server: `python -m ticketlock.demo.replica`.

It reads its settings as one JSON line from stdin, listens on 127.0.0.1, writes its port as
one JSON line to stdout, and serves until stdin ends: it never outlives the demo. Settings
come by stdin because a URL may hold a password, and a command line can be seen by all.

A connection carries JSON lines both ways. A message is answered twice: `accepted` once its
place in the queue is certain, and `done` once it has been handled (or `failed`: send again).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from .. import ConcurrentRedisLockStore, LockLost, TicketLockError
from .records import BEGIN, END, LOST, Records
from .traffic import Message

#: Seconds the bot takes to think about a message.
WORK = 0.001
#: Longest line on a connection, bytes.
LONGEST_LINE = 16 * 1024 * 1024


@dataclass(frozen=True)
class Settings:
    """What a replica is told when it starts.

    Attributes:
        name: tells this process from every other one, its own restarts included.
        folder: where the records are.
        unlocked: take no lock at all, to see what the demo says then.
    """

    name: str
    redis: str
    key_prefix: str
    folder: str
    unlocked: bool = False

    def line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"


class Turn(Protocol):
    """What the bot needs of a Grant."""

    number: int
    fence: int

    def ensure_held(self) -> None: ...


class EchoBot:
    """Handles a message under its conversation's lock, and records that it did."""

    def __init__(self, records: Records, name: str) -> None:
        self._records = records
        self._name = name

    async def handle(self, message: Message, turn: Turn) -> None:
        """Do the work once; a message that was handled before is left alone."""
        if self._records.ended(message.conversation, message.id):
            return
        self._record(message, BEGIN, turn)
        try:
            await asyncio.sleep(WORK)
            turn.ensure_held()
        except (asyncio.CancelledError, LockLost):
            self._record(message, LOST, turn)
            raise
        self._record(message, END, turn)

    def _record(self, message: Message, event: str, turn: Turn) -> None:
        self._records.write(
            message.conversation, message.id, event, turn.number, turn.fence, self._name
        )


class NoLock:
    """Stands in for a Lock and its Grant and protects nothing."""

    def __init__(self) -> None:
        self.number = self.fence = 0

    async def queue(self) -> int:
        return 0

    def ensure_held(self) -> None:
        pass

    async def __aenter__(self) -> NoLock:
        self.number = self.fence = time.monotonic_ns()
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Server:
    """Takes messages from connections and gives each to the bot in its turn."""

    def __init__(self, settings: Settings, store: ConcurrentRedisLockStore) -> None:
        self._settings = settings
        self._store = store
        self._bot = EchoBot(Records(Path(settings.folder)), settings.name)
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            task = asyncio.create_task(self._take(Message(**json.loads(line)), writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        writer.close()

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
        lock: Any = NoLock()
        if not self._settings.unlocked:
            lock = self._store.lock(message.conversation, label=f"message {message.id}")
        await lock.queue()
        answer("accepted")
        async with lock as turn:
            await self._bot.handle(message, turn)


async def _stdin() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def main() -> None:
    stdin = await _stdin()
    settings = Settings(**json.loads(await stdin.readline()))
    async with ConcurrentRedisLockStore(
        url=settings.redis, key_prefix=settings.key_prefix
    ) as store:
        replica = Server(settings, store)
        server = await asyncio.start_server(replica.connected, "127.0.0.1", 0, limit=LONGEST_LINE)
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await stdin.read()
        server.close()


if __name__ == "__main__":
    asyncio.run(main())
