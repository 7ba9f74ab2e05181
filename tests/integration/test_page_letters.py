"""Dead letters on the operator's page: seen, published once more, dropped."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
from conftest import until

from ticketlock import Conversations
from ticketlock.server import Settings, create_app
from ticketlock.tracker.outbox import DeadLetter

HEADERS = {"authorization": "Bearer the operator's"}


def named(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("conversation", "history", "sequence")}


async def test_dead_letters_are_resent_and_dropped(
    tmp_path: Path, run: Callable[[Awaitable[None]], None]
) -> None:
    """Those that are named and no others; each with a line of who did it, and why."""
    log = tmp_path / "events.log"
    broker = {"type": "file", "path": str(log)}
    tracker = {"type": "sql", "db": str(tmp_path / "bot.db")}
    async with Conversations(None, tracker, broker) as conversations:
        app = create_app(conversations, settings=Settings(admin_token="the operator's"))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:

            async def rows() -> list[dict[str, Any]]:
                found: list[dict[str, Any]] = (await http.get("/live")).json()["letters"]["rows"]
                return found

            async def settle(action: str, *which: dict[str, Any]) -> Any:
                body = {"action": action, "letters": [named(w) for w in which]}
                said = {**body, "who": "anna", "why": "the topic is there now"}
                return (await http.post("/live/letters", json=said, headers=HEADERS)).json()

            assert conversations.relay is not None
            await until(lambda: conversations.relay.broker is not None, "no broker")  # type: ignore[union-attr]
            await conversations.tracker_store.outbox.add_dead_letters(
                [
                    DeadLetter(who, 1, i, {"event": "user", "text": f"{who} {i}"}, "too large")
                    for who in ("c", "d")
                    for i in range(2)
                ]
            )
            found = await rows()
            assert [(r["conversation"], r["sequence"], r["reason"]) for r in found] == [
                ("c", 0, "too large"), ("c", 1, "too large"),
                ("d", 0, "too large"), ("d", 1, "too large"),
            ]  # fmt: skip
            opened = (await http.get("/live/conversation", params={"id": "d"})).json()
            assert [r["sequence"] for r in opened["letters"]["rows"]] == [0, 1]
            gone = {**found[0], "sequence": 9}
            done = await settle("resend", found[0], gone)
            assert (done["done"], done["left"], done["problem"]) == (1, 0, "")
            assert [json.loads(line)["text"] for line in log.read_text().splitlines()] == ["c 0"]
            assert (await settle("drop", found[1], found[3]))["done"] == 2
            assert [named(r) for r in await rows()] == [named(found[2])]
            deeds = (await http.get("/live")).json()["audit"]
            assert [(d["action"], d["what"], d["who"]) for d in deeds] == [
                ("drop", "2 of 2 dead letters", "anna"),
                ("resend", "1 of 2 dead letters", "anna"),
            ]
            for wrong in ([], [{}], [{**named(found[0]), "sequence": -1}], "all"):
                body = {"action": "drop", "letters": wrong}
                answer = await http.post("/live/letters", json=body, headers=HEADERS)
                assert answer.status_code == 400


async def test_without_a_broker_there_are_none(run: Callable[[Awaitable[None]], None]) -> None:
    async with Conversations() as conversations:
        app = create_app(conversations, settings=Settings(admin_token="the operator's"))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://bot") as http:
            assert (await http.get("/live")).json()["letters"] is None
            letter = {"conversation": "c", "history": 0, "sequence": 0}
            body = {"action": "resend", "letters": [letter]}
            answer = await http.post("/live/letters", json=body, headers=HEADERS)
            assert (answer.status_code, answer.json()["reason"]) == (409, "Conflict")
