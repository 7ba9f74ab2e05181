"""A TCP proxy with bad manners, for what networks do."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from types import TracebackType

#: How a Redis begins to ring a bell: the push of a message, of which channel and text follow; the
#: second in a sharded channel of a cluster.
_BELLS = b">3\r\n$7\r\nmessage\r\n", b">3\r\n$8\r\nsmessage\r\n"
_LENGTH = re.compile(rb"\$(\d+)\r\n")


class Proxy:
    """Forwards a port of 127.0.0.1 to another one, in one of several moods.

    Attributes:
        mood: "pass", "black hole" (nothing goes through), "lose answers" (requests do),
            "hold" (nothing goes through until the mood changes, then all of it does),
            "refuse" (new connections are reset), or "lose bells" (of a Redis: all but the
            messages of its channels goes through).
        concerns: whether a mood, and `reset`, concern connections from an address; default: all.
        latency: seconds by which each piece of an answer comes later.
        delay: seconds by which the next piece comes later, in either direction.
        accepted: how many connections there were.
        answered: bytes of answers that have come.
        trips: pieces of requests that have come; a client that waits for each answer sends one of
            them for each round trip.
        answers_left: pieces of answers that go through on all connections; later ones are lost.
        most_answers: pieces of answers that go through on a connection before it breaks.
    """

    def __init__(self, target: int, port: int = 0) -> None:
        self.target = target
        self.port = port
        self.mood = "pass"
        self.concerns: Callable[[str], bool] = _all
        self.latency = 0.0
        self.delay: Callable[[], float] = _none
        self.accepted = 0
        self.answered = 0
        self.trips = 0
        self.answers_left: float = math.inf
        self.most_answers: float = math.inf
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, str] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._resets = 0
        self._swallowed = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.concerns = _all
        self.reset()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Break every connection that it concerns with a RST, also one that is just coming about."""
        self._resets += 1
        for writer, address in list(self._writers.items()):
            if self.concerns(address):
                writer.transport.abort()
                del self._writers[writer]

    def swallow(self) -> None:
        """Let nothing through any more on the connections there are; new ones work.

        So does a NAT or a load balancer that has forgotten them.
        """
        self._swallowed = self.accepted

    async def passing(self, data: bytes, answers: bool, nth: int) -> bytes:
        """What goes on in place of a piece, once it returns; for subclasses.

        Args:
            answers: whether the piece is of an answer.
            nth: number of the connection, from 1.
        """
        return data

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        nth, resets = self.accepted, self._resets
        address = str(writer.get_extra_info("peername", [""])[0])
        if self.mood == "refuse" and self.concerns(address):
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        if self._resets != resets and self.concerns(address):  # it would outlive the outage
            writer.transport.abort()
            back.transport.abort()
            return
        self._writers |= {writer: address, back: address}
        for source, sink, answers in ((reader, back, False), (there, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, answers, nth, address))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _mood_of(self, address: str) -> str:
        return self.mood if self.concerns(address) else "pass"

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool, nth: int,
        address: str,
    ) -> None:  # fmt: skip
        left = self.most_answers if answers else math.inf
        bell = b""  # the begin of one
        try:
            while (data := await source.read(65536)) and left > 0:
                left -= 1
                self.answered += len(data) if answers else 0
                self.trips += not answers
                self.answers_left -= answers
                mood = self._mood_of(address)
                if (
                    nth <= self._swallowed
                    or mood == "black hole"
                    or (answers and (mood == "lose answers" or self.answers_left < 0))
                ):
                    continue
                while self._mood_of(address) == "hold":  # noqa: ASYNC110  # tests set it
                    await asyncio.sleep(0.01)
                if (late := self.delay() + answers * self.latency) > 0:
                    await asyncio.sleep(late)
                if answers and (bell or self._mood_of(address) == "lose bells"):
                    data, bell = without_bells(bell + data)
                sink.write(await self.passing(data, answers, nth))
                await sink.drain()
        except OSError:
            return
        finally:
            self._writers.pop(sink, None)
            sink.transport.abort()


def _all(_: str) -> bool:
    return True


def _none() -> float:
    return 0.0


def without_bells(data: bytes) -> tuple[bytes, bytes]:
    """Answers of a Redis without the bells among them, and the begin of a bell at their end."""
    kept = []
    while begins := [(at, bell) for bell in _BELLS if (at := data.find(bell)) >= 0]:
        begin, bell = min(begins)
        end = begin + len(bell)
        for _ in range(2):  # the channel and the text
            length = _LENGTH.match(data, end)
            end = length.end() + int(length[1]) + 2 if length else len(data) + 1
        kept.append(data[:begin])
        if end > len(data):
            return b"".join(kept), data[begin:]
        data = data[end:]
    part = max(n for bell in _BELLS for n in range(len(bell)) if data.endswith(bell[:n]))
    return b"".join([*kept, data[: len(data) - part]]), data[len(data) - part :]
