"""The transport of a redis-py connection, which a link takes over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from redis.asyncio.connection import Connection


class LinkProtocol(asyncio.Protocol):
    """Passes on the events of one connection, so that an old one's end is not the new one's."""

    def __init__(
        self,
        on_data: Callable[[bytes], None],
        on_writable: Callable[[bool], None],
        on_lost: Callable[[LinkProtocol, Exception | None], None],
    ) -> None:
        self.data_received = on_data  # type: ignore[method-assign, assignment]  # the hot path
        self._on_writable = on_writable
        self._on_lost = on_lost

    def pause_writing(self) -> None:
        self._on_writable(False)

    def resume_writing(self) -> None:
        self._on_writable(True)

    def connection_lost(self, error: Exception | None) -> None:
        self._on_lost(self, error)


def discard(connection: Connection) -> None:
    """End a connection."""
    writer = connection._writer  # noqa: SLF001  # redis-py has no public way to its transport
    if writer is not None:
        writer.transport.abort()
    release(connection)


def release(connection: Connection) -> None:
    """Make redis-py forget the streams of a connection, so that it does not close them."""
    connection._reader = connection._writer = None  # noqa: SLF001  # as above


def streams(connection: Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams of a connected redis-py connection."""
    reader, writer = connection._reader, connection._writer  # noqa: SLF001  # as above
    assert reader is not None and writer is not None  # noqa: PT018  # it is connected
    return reader, writer
