"""The action server of the bot: it knows which turns run, and may hold one of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from typing import Any

#: Seconds that a custom action takes.
SECONDS = 0.05


class Actions:
    """Answers each call with the user's text.

    Attributes:
        calls: conversation -> the texts of its turns, in the order in which they began.
        overlaps: how often a turn began while another one of its conversation ran.
    """

    def __init__(self) -> None:
        self.calls: dict[str, list[str]] = {}
        self.overlaps = 0
        self.port = 0
        self._running: Counter[str] = Counter()
        self._held: dict[str, asyncio.Event] = {}
        self._gates: list[asyncio.Event] = []
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Actions:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for gate in self._gates:
            gate.set()
        await asyncio.sleep(0.1)  # for the calls of killed replicas to end; nothing depends on it

    def hold(self, conversation: str) -> asyncio.Event:
        """The next turn of a conversation lasts until this event is set."""
        gate = self._held[conversation] = asyncio.Event()
        self._gates.append(gate)
        return gate

    async def called(self, conversation: str, count: int, seconds: float) -> None:
        """Wait until so many turns of a conversation have begun."""

        async def wait() -> None:
            while len(self.calls.get(conversation, ())) < count:
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), seconds)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                (length,) = (
                    int(line.partition(":")[2])
                    for line in head.splitlines()
                    if line.startswith("content-length:")
                )
                body = json.loads(await reader.readexactly(length))
                answer = json.dumps(await self._act(body)).encode()
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%b" % (len(answer), answer)
                )
                await writer.drain()
        writer.close()

    async def _act(self, body: dict[str, Any]) -> dict[str, Any]:
        conversation, text = body["sender_id"], body["tracker"]["latest_message"]["text"]
        self.calls.setdefault(conversation, []).append(text)
        self._changed.set()
        held = self._held.pop(conversation, None)
        if held is not None:
            await held.wait()  # its replica may be killed meanwhile: that is no overlap
        else:
            self.overlaps += self._running[conversation] > 0
            self._running[conversation] += 1
            await asyncio.sleep(SECONDS)
            self._running[conversation] -= 1
        return {"events": [], "responses": [{"text": f"done: {text}"}]}
