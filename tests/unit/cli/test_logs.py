"""What the log says of turns, in text and in JSON, and what it never says."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from serving import Gate, client, send
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import Conversations, TrackerStoreConnectionError
from ticketlock.cli import logs, main
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import Outcome, poisoned
from ticketlock.server.access_log import AccessLog
from ticketlock.server.handling import Handler

Run = Callable[..., None]

#: What breaks out of a line, a field or a terminal.
HOSTILE = 'a"}\n2026-01-01 ERROR it is all lost \x1b[31m\u2028{"level": "ERROR"}'


def made(record_format: str = "json") -> logging.Formatter:
    parser = argparse.ArgumentParser()
    logs.add(parser)
    return logs.formatter(parser.parse_args(["--log-format", record_format]))


def warnings(caplog: pytest.LogCaptureFixture, logger: str) -> list[dict[str, Any]]:
    """The attributes of its warnings."""
    return [vars(r) for r in caplog.records if (r.name, r.levelname) == (logger, "WARNING")]


async def test_a_refused_message_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """With the conversation, the message, its ticket, how long the turn is held, and why."""
    gate = Gate()
    async with client(gate, request_timeout=0.3, max_waiting=1) as http:
        first = asyncio.create_task(send(http, "1", sender="c", message_id="m1"))
        await gate.entered.wait()
        busy = await send(http, "2", sender="c", message_id="m2", double_texting="reject")
        assert busy.status_code == 409
        assert (await first).status_code == 504
        gate.open.set()
    busy, late = warnings(caplog, "ticketlock.server")
    assert (busy["conversation"], busy["message_id"]) == ("c", "m2")
    assert (busy["status"], busy["reason"], busy["ticket"]) == (409, "Busy", None)
    assert 0 <= busy["held_for"] < 30
    assert "c" in busy["why"]
    assert (late["message_id"], late["status"], late["reason"]) == ("m1", 504, "Timeout")
    assert late["ticket"] == 1
    assert "message 'm2' of conversation 'c': answered 409 Busy" in caplog.text
    assert "message 'm1' of conversation 'c', ticket 1: answered 504 Timeout" in caplog.text


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_that_is_not_shown_is_logged_once(
    stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """With its conversation, though its text is not for the client."""

    class Away(InMemoryTrackerStore):
        async def claim(self, *_: Any) -> Any:
            raise TrackerStoreConnectionError("away: db.internal")

    async with client(stores=(None, Away())) as http:
        address = f"/webhooks/rest/webhook?stream={str(stream).lower()}"
        answer = await http.post(address, json={"sender": "c", "message": "x"})
        assert (answer.status_code, "away" in answer.text) == (503, False)
    (said,) = [one for one in caplog.messages if "away: db" in one]
    assert " of conversation 'c', ticket 1: answered 503 TrackerStoreUnavailable after" in said


async def test_a_message_that_is_tried_again_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async def bot(turn: Any, message: Any) -> AsyncIterator[str]:
        if message.attempt < 2:
            raise RuntimeError("the secret of the bot")
        yield "at last"

    async with client(bot) as http:
        assert (await send(http, "x", sender="c", message_id="m")).status_code == 500
        assert (await send(http, "x", sender="c", message_id="m")).status_code == 200
    (again,) = warnings(caplog, "ticketlock.turn")
    assert (again["conversation"], again["message_id"], again["attempt"]) == ("c", "m", 2)
    assert again["ticket"] == 1
    (failed,) = warnings(caplog, "ticketlock.server")
    assert (failed["status"], failed["reason"], failed["ticket"]) == (500, "ConversationError", 1)


async def test_a_repeated_write_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    async with Conversations() as conversations:
        store: Any = conversations.tracker_store
        append, failures = store.append, [TrackerStoreConnectionError("it is away")]

        async def failing(*args: Any) -> None:
            if failures:
                raise failures.pop()
            await append(*args)

        store.append = failing
        async with conversations.turn("c", label="m") as turn:
            turn.add({"event": "user", "text": "x"})
    (again,) = warnings(caplog, "ticketlock.turn")
    assert (again["conversation"], again["message_id"], again["attempt"]) == ("c", "m", 2)
    assert "it is away" in again["why"]


async def test_a_dead_letter_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Refusing(EventBroker):
        async def deliver(self, batch: Any, timeout: float | None = None) -> list[Outcome]:
            return [poisoned("it is too large")] * len(batch)

    async with Conversations(event_broker=Refusing()) as conversations:
        async with conversations.turn("c") as turn:
            turn.add({"event": "user", "text": "x"})
        await until(lambda: warnings(caplog, "ticketlock.relay"), "it is set apart")
    (letter,) = warnings(caplog, "ticketlock.relay")
    assert (letter["conversation"], letter["sequence"]) == ("c", 0)
    assert letter["why"] == "it is too large"


def test_access_is_logged_on_demand(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A line a message, duplicates and refusals too; without an AccessLog none."""
    caplog.set_level(logging.INFO, "ticketlock")

    async def body(observed: bool) -> None:
        async with client() as http:
            handler: Handler = http.app.handler  # type: ignore[attr-defined]  # see serving
            if observed:
                handler.conversations.observe(AccessLog())
            for _ in range(2):
                await send(http, "the text of the user", sender=HOSTILE, message_id="m")
            await send(http, "x", sender="c", double_texting="coalesce")

    run(body(observed=False))
    assert not [r for r in caplog.records if r.name == "ticketlock.access"]
    run(body(observed=True))
    lines = [r for r in caplog.records if r.name == "ticketlock.access"]
    assert {r.levelname for r in lines} == {"INFO"}
    facts = [(vars(r)["conversation"], vars(r)["status"], vars(r)["reason"]) for r in lines]
    assert facts == [(HOSTILE, 200, "ok"), (HOSTILE, 200, "duplicate"), ("c", 200, "ok")]
    for record in lines:
        text = made("text").format(record)
        assert "the text of the user" not in text
        assert len(text.splitlines()) == 1
        assert "\x1b" not in text


async def test_access_without_a_ticket(caplog: pytest.LogCaptureFixture) -> None:
    """Its line does not name one."""
    caplog.set_level(logging.INFO, "ticketlock.access")
    gate = Gate()
    async with client(gate) as http:
        http.app.handler.conversations.observe(AccessLog())  # type: ignore[attr-defined]  # see serving
        first = asyncio.create_task(send(http, "1", sender="c", message_id="m1"))
        await gate.entered.wait()
        await send(http, "2", sender="c", message_id="m2", double_texting="reject")
        gate.open.set()
        await first
    lines = [r.getMessage() for r in caplog.records if r.name == "ticketlock.access"]
    assert [line.split(",")[0] for line in lines] == [
        "'c' 'm2': 409 Busy", "'c' 'm1' ticket 1: 200 ok",
    ]  # fmt: skip


async def test_an_unexpected_error_is_logged_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its traceback; the web server, which would log that again, does not hear of it."""

    async def broken(*_: object) -> None:
        raise LookupError("of the store")

    monkeypatch.setattr(InMemoryTrackerStore, "append", broken)
    async with client() as http:
        transport = httpx.ASGITransport(http.app)  # type: ignore[attr-defined]  # see serving
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as strict:
            body = {"event": "user", "text": "x"}
            answer = await strict.post("/conversations/c/tracker/events", json=body)
    assert (answer.status_code, answer.json()["message"]) == (500, "Internal Server Error")
    assert caplog.text.count("LookupError: of the store") == 1


def test_json_is_one_object_a_line(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a conversation is called and an error says: it is a value, and nothing else."""
    log = logging.getLogger("ticketlock.test")
    try:
        raise RuntimeError(HOSTILE)
    except RuntimeError:
        log.exception("conversation %r %s", HOSTILE, HOSTILE, extra={"conversation": HOSTILE})
    log.warning("of a field that is ours", extra={"level": "INFO", "time": "now"})
    one, two = (made().format(record) for record in caplog.records)
    assert one.isascii()
    assert len(one.splitlines()) == 1
    found = json.loads(one)
    assert found["conversation"] == HOSTILE
    assert found["message"] == f"conversation {HOSTILE!r} {HOSTILE}"
    assert (found["level"], found["logger"]) == ("ERROR", "ticketlock.test")
    assert "RuntimeError" in found["exception"]
    assert found["time"].endswith("+00:00")
    assert json.loads(two)["level"] == "WARNING"  # no fact takes the place of what a record has


@pytest.mark.parametrize("level", logs.LEVELS)
def test_levels(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`debug` is about our loggers: drivers tell secrets there."""
    parser = argparse.ArgumentParser()
    logs.add(parser)
    ours, root = logging.getLogger("ticketlock"), logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr(ours, "level", ours.level)
    logs.set_up(parser.parse_args(["--log-level", level]))
    assert ours.level == getattr(logging, level.upper())
    assert root.level == max(logging.INFO, ours.level)
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]  # of levels


async def test_secrets_are_in_no_record(caplog: pytest.LogCaptureFixture) -> None:
    """Tokens in headers and in the query, right ones and wrong ones, at the level `debug`."""
    caplog.set_level(logging.DEBUG)
    token, wrong = "the token of operators", "a token that is wrong"
    async with client(auth_token=token) as http:
        handler: Handler = http.app.handler  # type: ignore[attr-defined]  # see serving
        handler.conversations.observe(AccessLog())
        for given in (token, wrong):
            body = {"message": "x", "sender": "c"}
            url = "/webhooks/rest/webhook"
            await http.post(url, params={"token": given}, json=body)
            await http.post(url, headers={"authorization": f"Bearer {given}"}, json=body)
            await http.get("/metrics", params={"token": given})
    ours = [r for r in caplog.records if r.name.startswith("ticketlock")]
    assert ours
    for record in ours:
        assert "token" not in made().format(record)


def test_the_doctor_leaves_the_level_of_a_program(tmp_path: Path) -> None:
    """It logs errors alone while it looks, also where it is called within another program."""
    log = logging.getLogger("ticketlock")
    before, seen = log.level, []
    (tmp_path / "endpoints.yml").write_text("lock_store:\n  type: in_memory\n")
    (tmp_path / "broken.yml").write_text("lock_store: 1\n")
    for name in ("endpoints.yml", "broken.yml"):
        main(["doctor", "--endpoints", str(tmp_path / name)])
        seen.append(log.level)
    assert seen == [before, before]
