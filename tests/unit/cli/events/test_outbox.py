"""`ticketlock events status`, `dead` and `resend`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from contract_events import user

from ticketlock import Conversations, cli
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.outbox import DeadLetter


@pytest.fixture
def endpoints(tmp_path: Path) -> Path:
    path = tmp_path / "endpoints.yml"
    path.write_text(
        f"tracker_store: {{type: sql, db: {tmp_path / 'bot.db'}}}\n"
        f"event_broker: {{type: file, path: {tmp_path / 'events.log'}}}\n"
    )
    return path


def fill(endpoints: Path, letters: list[DeadLetter]) -> None:
    """Two events that wait, and dead letters."""

    async def body() -> None:
        section = {"type": "sql", "db": str(endpoints.parent / "bot.db")}
        async with create_tracker_store(section) as store:
            store.publishes = True
            claim = await store.claim("a", 1, "writer")
            await store.append(claim, [user("1", 1), user("2", 1)])
            await store.outbox.add_dead_letters(letters)

    asyncio.run(body())


def said(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_commands(endpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What waits is counted; a dead letter is listed, sent once more, and then gone."""
    fill(endpoints, [DeadLetter("b", 7, 3, user("x", 1), "too large")])
    words = ["--endpoints", str(endpoints), "--json"]
    assert cli.main(["events", "status", *words]) == 0
    (status,) = said(capsys)
    assert (status["conversations"], status["events"], status["dead_letters"]) == (1, 2, 1)
    assert cli.main(["events", "dead", *words]) == 0
    (letter,) = said(capsys)
    assert (letter["sender_id"], letter["sequence"], letter["reason"]) == ("b", 3, "too large")
    assert cli.main(["events", "resend", *words]) == 0
    assert said(capsys) == [{"published": 1, "left": 0}]
    (line,) = (endpoints.parent / "events.log").read_text().splitlines()
    assert json.loads(line) == {**user("x", 1), "sender_id": "b", "history": 7, "sequence": 3}
    assert cli.main(["events", "dead", *words]) == 0
    assert said(capsys) == []


def test_dropped(endpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(endpoints, [DeadLetter("b", 7, 3, user("x", 1), "too large")])
    assert cli.main(["events", "dead", "--drop", "--endpoints", str(endpoints)]) == 0
    assert "'b' 3: too large" in capsys.readouterr().out
    assert cli.main(["events", "dead", "--endpoints", str(endpoints)]) == 0
    assert capsys.readouterr().out == "no dead letters\n"


def test_no_broker_to_send_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "endpoints.yml"
    path.write_text(f"tracker_store: {{type: sql, db: {tmp_path / 'bot.db'}}}\n")
    fill(path, [])
    assert cli.main(["events", "resend", "--endpoints", str(path)]) == 2
    assert "event_broker: is missing" in capsys.readouterr().err


def test_the_backlog_of_a_dead_replica_is_published(endpoints: Path) -> None:
    """Opening the conversations is enough: no turn is needed."""
    fill(endpoints, [])

    async def body() -> None:
        async with Conversations.from_endpoints(endpoints) as conversations:
            while (await conversations.tracker_store.outbox.backlog()).events:
                await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(body(), 20))
    lines = (endpoints.parent / "events.log").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["1", "2"]
