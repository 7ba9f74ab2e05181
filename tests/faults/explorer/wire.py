"""The wire between a client's real link and the model: commands out, answers and bells in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import hiredis

Words = tuple[str, ...]


class Transport:
    """Stands for a connection's transport: keeps what the link writes, to be executed later.

    Attributes:
        written: commands that nobody has taken from here yet.
        channels: what the connection has subscribed to.
        aborted: the client has given the connection up.
    """

    def __init__(self, call_soon: Callable[..., Any]) -> None:
        self._call_soon = call_soon
        self._reader = hiredis.Reader()
        self._protocol: Any = None
        self.written: list[Words] = []
        self.channels: set[str] = set()
        self.aborted = False

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True

    close = abort

    def write(self, data: bytes) -> None:
        """Take commands; what prepares a connection is answered at once."""
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            words = tuple(word.decode("latin1") for word in command)
            if words[0] == "SUBSCRIBE":
                self.channels.update(words[1:])
                self._call_soon(self.receive, encoded(("subscribe", words[1], 1), ">"))
            else:
                self.written.append(words)

    def receive(self, data: bytes) -> None:
        """Bring the client an answer, or a bell."""
        if not self.aborted:
            self._protocol.data_received(data)

    def break_off(self) -> None:
        """The connection is lost."""
        self.aborted = True
        self._protocol.connection_lost(ConnectionResetError("lost"))


class Connection:
    """What redis-py's connection is to the link: the link takes its transport over."""

    def __init__(self, transport: Transport) -> None:
        self._reader = self
        self._writer = self
        self.transport = transport

    def at_eof(self) -> bool:
        return False


def encoded(answer: Any, kind: str = "*") -> bytes:
    """An answer in RESP3; with `>` as the kind of an array it is a push."""
    if answer is None:
        return b"_\r\n"
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, str):
        data = answer.encode("latin1")
        return b"$%d\r\n%s\r\n" % (len(data), data)
    parts = b"".join(encoded(item) for item in answer)
    return f"{kind}{len(answer)}\r\n".encode() + parts


def bell(channel: str, text: str) -> bytes:
    """A bell as it comes to a subscriber."""
    return encoded(("message", channel, text), ">")
