"""The page of operators over HTTP: who may see it, and who may break a turn."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import httpx
import pytest

from ticketlock.conversations import Conversations
from ticketlock.server import Settings, create_app


def client(conversations: Conversations, **settings: Any) -> httpx.AsyncClient:
    app = create_app(conversations, settings=Settings(**settings))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_a_process_of_its_own_tells_of_itself() -> None:
    """Without a shared lock store the page has what this process does."""
    async with Conversations() as conversations, client(conversations) as http:
        async with conversations.turn("c", label="by hand") as turn:
            waiting = asyncio.create_task(
                http.post("/webhooks/rest/webhook", json={"sender": "c", "message": "hi"})
            )
            while not (seen := (await http.get("/live")).json())["totals"]["waiting"]:
                await asyncio.sleep(0.3)
            assert seen["scope"] == "process"
            assert seen["can_break"] is False
            assert seen["outbox"] is None
            # The lock store knows of holders that are no messages.
            (found,) = seen["conversations"]
            assert (found["waiting"], found["holder"]["label"]) == (1, "by hand")
            assert found["holder"]["fence"] == turn.fence
        assert (await waiting).status_code == 200


async def test_browsers_get_the_page_and_programs_the_greeting() -> None:
    async with Conversations() as conversations, client(conversations) as http:
        assert (await http.get("/")).text.startswith("Hello from ticketlock")
        answer = await http.get("/", headers={"accept": "text/html,*/*;q=0.8"})
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert len(re.findall(r"'sha256-[\w+/]{43}='", policy)) == 2
        # Nothing is loaded from elsewhere, and nothing is put in as markup.
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", answer.text
        )


async def test_where_a_token_is_configured_nothing_is_shown_without() -> None:
    """The admin token shows and breaks; the token of the conversations shows; no other does."""
    settings = {
        "auth_token": "it-reads",
        "admin_token": "it-breaks",
        "channel_token": "it-sends",
    }
    async with Conversations() as conversations, client(conversations, **settings) as http:

        async def look(token: str) -> int:
            headers = {"authorization": f"Bearer {token}"}
            return (await http.get("/live", headers=headers)).status_code

        async def end(token: str, body: Any) -> httpx.Response:
            headers = {"authorization": f"Bearer {token}"}
            return await http.post("/live/break", headers=headers, json=body)

        assert [await look(t) for t in ("it-reads", "it-breaks", "it-sends", "")] == [
            200,
            200,
            401,
            401,
        ]
        async with conversations.turn("c") as turn:
            this = {"conversation": "c", "fence": turn.fence}
            assert [(await end(t, this)).status_code for t in ("it-reads", "it-sends")] == [
                401,
                401,
            ]
            answer = await end("it-breaks", {**this, "fence": turn.fence + 1})
            assert (answer.json()["broken"], turn.grant.reason) == (False, None)
            assert answer.json()["held"]["fence"] == turn.fence
        for wrong in (
            {},
            {"conversation": "c"},
            {**this, "fence": "1"},
            {**this, "fence": True},
            {"turns": []},
            {"turns": [{"conversation": "c"}]},
            {**this, "who": "x" * 101},
        ):
            assert (await end("it-breaks", wrong)).status_code == 400


async def test_without_an_admin_token_nobody_breaks() -> None:
    async with Conversations() as conversations, client(conversations) as http:
        answer = await http.post("/live/break", json={"conversation": "c", "fence": 1})
        assert answer.status_code == 403


async def test_a_view_token_opens_the_page_to_be_read_and_nothing_else() -> None:
    """And closes it: where one is set nobody reads without a token."""
    tokens = {"view_token": "it-only-looks", "admin_token": "it-breaks"}
    async with Conversations() as conversations, client(conversations, **tokens) as http:
        places = ("/live", "/live/turns", "/live/conversation?id=c")

        async def each(token: str) -> set[int]:
            headers = {"authorization": f"Bearer {token}"}
            return {(await http.get(path, headers=headers)).status_code for path in places}

        assert [await each(t) for t in ("it-only-looks", "it-breaks", "it-guesses")] == [
            {200}, {200}, {401},
        ]  # fmt: skip
        roles = []
        for token in tokens.values():
            answer = await http.get("/live", headers={"authorization": f"Bearer {token}"})
            roles.append(answer.json()["role"])
        assert roles == ["viewer", "operator"]
        looks = {"authorization": "Bearer it-only-looks"}
        for path in ("/live/break", "/live/letters", "/live/messages"):
            assert (await http.post(path, headers=looks, json={})).status_code == 401
        lock = await http.delete("/conversations/c/lock", headers=looks)
        assert lock.status_code == 401


async def test_a_conversation_is_opened_with_all_that_is_known_of_it() -> None:
    """Holder, queue, transcript; and an id that nobody knows is no error."""
    async with Conversations() as conversations, client(conversations) as http:
        sent = await http.post("/webhooks/rest/webhook", json={"sender": "c", "message": "hi"})
        assert sent.status_code == 200
        async with conversations.turn("c", label="by hand"):
            found = (await http.get("/live/conversation", params={"id": "c"})).json()
        assert found["lock"]["holder"]["label"] == "by hand"
        assert found["lock"]["waiting"] == []
        said = [(e["who"], e["text"]) for e in found["transcript"]["events"]]
        assert said == [("event", "session_started"), ("user", "hi"), ("bot", "hi")]
        unknown = (await http.get("/live/conversation", params={"id": "nobody"})).json()
        assert unknown["lock"]["holder"] is None
        assert unknown["transcript"]["events"] == []
        assert (await http.get("/live/conversation")).status_code == 400


async def test_what_operators_do_is_written_down(caplog: pytest.LogCaptureFixture) -> None:
    """Who, why and from where: in the log and on the page, the latest first."""
    async with (
        Conversations() as conversations,
        client(conversations, admin_token="it-breaks") as http,
    ):
        headers = {"authorization": "Bearer it-breaks"}
        async with conversations.turn("one") as turn:
            one = {"conversation": "one", "fence": turn.fence}
            said = {"who": "anna", "why": "it hangs\nsince 3"}
            ended = {"conversation": "one", "fence": turn.fence + 1}
            answer = await http.post(
                "/live/break", headers=headers, json={"turns": [ended], **said}
            )
            assert answer.json() == {"broken": 0, "ended": 1}
        answer = await http.post("/live/break", headers=headers, json={**one, **said})
        assert answer.json()["broken"] is False
        last = (await http.get("/live")).json()["audit"]
        assert [(d["action"], d["conversation"], d["who"]) for d in last] == [
            ("break", "one", "anna"), ("break", "", "anna"),
        ]  # fmt: skip
        assert last[0]["why"] == "it hangs\nsince 3"
    lines = [r.getMessage() for r in caplog.records if r.name == "ticketlock.audit"]
    assert len(lines) == 2
    assert all("by 'anna' from" in line and "'it hangs\\nsince 3'" in line for line in lines)


async def test_a_wrong_question_is_refused_with_what_is_right() -> None:
    async with Conversations() as conversations, client(conversations) as http:
        for query in ("show=some", "sort=size", "order=up", "start=-1", "limit=0", "limit=x"):
            answer = await http.get(f"/live?{query}")
            assert answer.status_code == 400
            assert query.partition("=")[0] in answer.json()["message"]
