"""The benchmark beside Rasa counts what is not answered and what is lost, and says if it is not run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from benchmarks.bench import Bench
from benchmarks.rows import Rows
from benchmarks.workloads import beside_rasa
from benchmarks.workloads.beside_rasa import BURSTS, LOCKS, OURS, RASA, burst, text

#: What becomes of the messages of a conversation, by their numbers.
REPLIED, REFUSED, EMPTY, HUNG_UP, LOST = range(5)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A replica that does something else with each message of a conversation, and stores three."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = int(head.partition("content-length: ")[2].partition("\r")[0])
    body = json.loads(await reader.readexactly(length) or b"{}")
    status, answer = "200 OK", [{"text": "hello"}]
    if head.startswith("GET"):
        stored = [{"event": "user", "text": text(kind)} for kind in (REPLIED, EMPTY, HUNG_UP)]
        answer = {
            "events": [{"event": "action"}, *stored, {"event": "user", "text": text(REFUSED)}]
        }
    elif body["message"] == text(REFUSED):
        status = "500 Internal Server Error"
    elif body["message"] == text(EMPTY):
        answer = []
    if body.get("message") != text(HUNG_UP):
        writer.write(f"HTTP/1.1 {status}\r\n\r\n{json.dumps(answer)}".encode())
    writer.close()


def test_what_failed_is_counted() -> None:
    """An error, no reply and a broken connection are unanswered; what no history has is lost."""

    async def measure() -> dict[str, float]:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await burst([port, port], "x", conversations=3, each=5)

    found = asyncio.run(measure())
    assert (found["unanswered"], found["lost"]) == (3 * 3, 3 * 1)


def test_a_late_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside_rasa, "PATIENCE", 0)

    async def measure() -> bool:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await beside_rasa.answered(port, "x", text(REPLIED))

    assert not asyncio.run(measure())


def test_without_rasa_it_is_not_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = beside_rasa.of_tests("inside_rasa.environment")
    monkeypatch.setattr(environment, "FOLDER", tmp_path)
    bench = Bench(full=False)
    beside_rasa.run(bench)
    assert bench.rows == []
    assert "NOT RUN" in capsys.readouterr().err
    assert beside_rasa.report(Rows([])) == "Not run: there was no Rasa."
    assert {bar.verdict for bar in beside_rasa.bars(Rows([]))} == {"not measured"}


def test_a_lost_message_misses_a_bar() -> None:
    bench = Bench(full=False)
    for peer in (RASA, LOCKS, OURS):
        for x in BURSTS:
            lost = int(peer == LOCKS)
            bench.add(peer, x, seconds=1.0, unanswered=0, lost=lost)
    verdicts = {bar.text: bar.verdict for bar in beside_rasa.bars(Rows(bench.rows))}
    assert verdicts[f"{LOCKS}: messages without a reply or lost"] == "**missed**"
    assert verdicts[f"{OURS}: messages without a reply or lost"] == "met"
    assert "0, 1 of 16" in beside_rasa.report(Rows(bench.rows))
