"""The benchmark of messages through the server measures what it says."""

from __future__ import annotations

import asyncio
import sys

import pytest

from benchmarks.bench import Bench
from benchmarks.rows import Rows
from benchmarks.workloads import served

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="measured on Linux")


def test_a_short_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with a bare request, and what memory adds to that is more than nothing."""
    monkeypatch.setattr(served, "ENGINES", {"httptools": "uvloop"})
    monkeypatch.setattr(served, "CONNECTIONS", 4)
    bench = Bench(full=False)
    try:
        served.run(bench)
    finally:
        bench.close()
    rows = Rows(bench.rows)
    assert rows.peers() == [served.BARE, "memory", "sqlite", "open loop"]
    assert (rows.ratio("memory", served.BARE, "us", "httptools") or 0) > 1
    assert all(one["us"] > 10 for one in bench.rows if "us" in one)
    [opened] = [one for one in bench.rows if one["peer"] == "open loop"]
    assert 0 < opened["p50"] <= opened["p99"]
    assert "| memory |" in served.report(rows)
    assert [bar.limit for bar in served.bars(rows)] == [0.8, 2.5, 6, 5]


def test_an_answer_that_is_no_reply_is_an_error() -> None:
    """A server that refuses would otherwise be a fast one."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 503 Overloaded\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()

    async def measure() -> None:
        server = await asyncio.start_server(refuse, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(RuntimeError, match=r"answered .*503"):
                await served.closed_loop(port, "x", 1, 1)

    asyncio.run(measure())
