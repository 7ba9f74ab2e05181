"""What a submitted message does while another one is handled, at another replica; bells can be lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from integration.test_inbox import accept, outcome
from integration.test_server import texts
from redis.asyncio import Redis
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis

#: A bot that says what it does, shielded or not, and notes when it is cancelled.
AGENT = """
import asyncio
import json
import time
from pathlib import Path

def note(word, message):
    with Path("notes").open("a") as notes:
        notes.write(json.dumps([word, message.text, time.time()]) + "\\n")

async def bot(turn, message):
    what = message.metadata
    turn.say(f"begun: {message.text}")
    note("begun", message)
    try:
        if "shield" in what:
            async with turn.shield():
                await asyncio.sleep(what["shield"])
                while "until" in what and not Path(what["until"]).exists():
                    await asyncio.sleep(0.02)
                turn.say(f"shielded: {message.text}")
        await asyncio.sleep(what.get("seconds", 0))
    except asyncio.CancelledError:
        note("cancelled", message)
        raise
    if "poison" in message.text:
        raise RuntimeError("poison")
    yield f"done: {message.text}"
"""
#: The same in a process that hears no bell.
DEAF = """
from agent import bot
from ticketlock.locks.concurrent.engine import Engine

Engine._push = lambda self, push: None
"""

Pair = tuple[Replica, Replica]


def write_bots(folder: Path, redis_url: str, **server: object) -> None:
    write_files(folder, redis_url, **server)
    (folder / "agent.py").write_text(AGENT)
    (folder / "deaf.py").write_text(DEAF)


@pytest.fixture(scope="module", params=["agent:bot", "deaf:bot"], ids=["bells", "deaf"])
def bot(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def pair(
    bot: str, redis_server: EmbeddedRedis, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """Two replicas, with bells or without."""
    folder = tmp_path_factory.mktemp("pair")
    write_bots(folder, redis_server.url, max_attempts=2, retry_time=0.5)
    with replicas(folder, ["--bot", bot], ["--bot", bot]) as (one, two):
        yield one, two


def noted(at: Replica, word: str, text: str) -> float | None:
    """When the bot noted something of a message."""
    path = at.folder / "notes"
    for line in path.read_text().splitlines() if path.exists() else ():
        what, about, moment = json.loads(line)
        if (what, about) == (word, text):
            return float(moment)
    return None


async def first_of(http: httpx.AsyncClient, at: Replica, name: str, **what: Any) -> dict[str, Any]:
    """A submitted message whose bot has begun, and takes long."""
    accepted = await accept(http, at, name, f"{name}1", metadata={"seconds": 30, **what})
    await until(lambda: noted(at, "begun", f"{name}1"), "the bot has begun")
    return accepted


def said(found: dict[str, Any]) -> list[str]:
    assert found["state"] == "replied", found
    return [reply["text"] for reply in found["replies"]]


@pytest.mark.parametrize("policy", ["interrupt", "rollback"])
async def test_stopped(pair: Pair, bot: str, policy: str) -> None:
    """The running one is cancelled within a second, or two heartbeats; one in between never begins."""
    one, two = pair
    name = f"{policy}."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await first_of(http, one, name)
        second = await accept(http, one, name, f"{name}2", metadata={"seconds": 30})
        sent = time.time()
        third = await accept(http, two, name, f"{name}3", double_texting=policy)
        found = [await outcome(http, two, each) for each in (first, second, third)]
        stopped = noted(one, "cancelled", f"{name}1")
        assert stopped is not None
        assert stopped - sent < (1 if bot == "agent:bot" else 2.2)
        assert noted(one, "begun", f"{name}2") is None
        assert said(found[2]) == [f"begun: {name}3", f"done: {name}3"]
        if policy == "rollback":
            assert [each["state"] for each in found[:2]] == ["rolled_back"] * 2
            history = []
        else:
            assert said(found[0]) == [f"begun: {name}1"]
            assert said(found[1]) == []
            history = [f"{name}1", f"begun: {name}1", f"{name}2"]
        history += [f"{name}3", f"begun: {name}3", f"done: {name}3"]
        assert await texts(http, one, name) == history
        again = await accept(http, two, name, f"{name}1")
        assert again["duplicate"]
        assert (await outcome(http, one, again)).get("replies") == found[0].get("replies")
        assert await texts(http, one, name) == history


async def test_a_shield(pair: Pair, bot: str) -> None:
    """A bot in a shield is cancelled as soon as it has left it, not before."""
    one, two = pair
    name = "shield."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await first_of(http, one, name, shield=4)
        second = await accept(http, two, name, f"{name}2", double_texting="interrupt")
        assert said(await outcome(http, two, second)) == [f"begun: {name}2", f"done: {name}2"]
        assert said(await outcome(http, two, first)) == [f"begun: {name}1", f"shielded: {name}1"]
        began, stopped = noted(one, "begun", f"{name}1"), noted(one, "cancelled", f"{name}1")
        assert began is not None
        assert stopped is not None
        assert 3.9 < stopped - began < 4.9


async def test_reject(pair: Pair, bot: str) -> None:
    """409 while another one is handled; it is not known then, and accepted later."""
    one, two = pair
    name = "reject."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await accept(http, one, name, "1", metadata={"seconds": 1})
        body = {"sender": name, "message": "2", "message_id": "2", "double_texting": "reject"}
        url = f"{two.url}/webhooks/rest/webhook?async=true"
        assert (await http.post(url, json=body)).status_code == 409
        assert (await outcome(http, two, first))["state"] == "replied"
        answer = await http.post(url, json=body)
        assert (answer.status_code, answer.json()["duplicate"]) == (202, False)
        assert said(await outcome(http, one, answer.json())) == ["begun: 2", "done: 2"]


async def test_coalesce(pair: Pair, bot: str) -> None:
    """What waits together is one turn: no message is left, and none is waited for."""
    one, two = pair
    name = "coalesce."
    async with httpx.AsyncClient(timeout=30) as http:
        accepted = [await accept(http, one, name, "1", metadata={"seconds": 1})]
        for number, text in enumerate("abcde"):
            policy = "enqueue" if text == "d" else "coalesce"
            accepted.append(await accept(http, pair[number % 2], name, text, double_texting=policy))
        # One that is withdrawn, and one that was in the middle of others, leave no hole.
        assert (await http.delete(two.url + accepted[2]["outcome"])).status_code == 200
        found = [await outcome(http, two, each) for each in accepted]
        assert found[2]["state"] == "withdrawn"
        del found[2]
        together = ["begun: a\nc", "done: a\nc"]
        assert [said(each) for each in found] == [
            ["begun: 1", "done: 1"], [], together, *([f"begun: {x}", f"done: {x}"] for x in "de"),
        ]  # fmt: skip
        history = ["1", "begun: 1", "done: 1", "a", "c", *together]
        history += [text for x in "de" for text in (x, f"begun: {x}", f"done: {x}")]
        assert await texts(http, one, name) == history


async def test_what_has_failed_is_handled_alone(pair: Pair, bot: str) -> None:
    """Of messages that fail together only the poisoned one is given up."""
    one, two = pair
    name = "alone."
    async with httpx.AsyncClient(timeout=30) as http:
        more = {"double_texting": "coalesce"}
        busy = await accept(http, one, name, "1", metadata={"seconds": 1})
        accepted = [await accept(http, two, name, text, **more) for text in ("x", "poison", "y")]
        found = [await outcome(http, one, each) for each in (busy, *accepted)]
        assert [each["state"] for each in found] == ["replied", "replied", "dead", "replied"]
        assert said(found[1]) == ["begun: x", "done: x"]
        assert said(found[3]) == ["begun: y", "done: y"]


async def test_one_that_failed_before_is_not_carried(pair: Pair, bot: str) -> None:
    """Its sender was told, and has sent it again: it has a turn of its own."""
    one, two = pair
    name = "carried."
    async with httpx.AsyncClient(timeout=30) as http:
        body = {"sender": name, "message": "poison", "message_id": "p"}
        answer = await http.post(f"{one.url}/webhooks/rest/webhook", json=body)
        assert answer.status_code == 500
        busy = await accept(http, one, name, "1", metadata={"seconds": 1})
        more = {"double_texting": "coalesce"}
        before = await accept(http, two, name, "a", **more)
        again = await accept(http, two, name, "poison", **more, message_id="p")
        after = await accept(http, two, name, "b", **more)
        states = [(await outcome(http, one, x))["state"] for x in (busy, before, again, after)]
        assert noted(one, "begun", "a\npoison\nb") is None
        assert states == ["replied", "replied", "dead", "replied"]
        assert said(await outcome(http, one, before)) == ["begun: a", "done: a"]


@pytest.mark.parametrize("dies", ["submitter", "holder"])
async def test_a_kill_loses_no_stop(
    redis_server: EmbeddedRedis, tmp_path: Path, bot: str, dies: str
) -> None:
    """Of the one that submitted the stop, or of the one that was to be stopped."""
    write_bots(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, ["--bot", bot], ["--bot", bot]) as (one, two):
            first = await first_of(http, one, "k")
            second = await accept(http, one, "k", "k2", metadata={"seconds": 30})
            third = await accept(http, two, "k", "k3", double_texting="interrupt")
            (two if dies == "submitter" else one).process.kill()
            left = one if dies == "submitter" else two
            found = [await outcome(http, left, each) for each in (first, second, third)]
            assert said(found[0]) in ([], ["begun: k1"])
            assert said(found[1]) == []
            assert said(found[2]) == ["begun: k3", "done: k3"]
            users = [text for text in await texts(http, left, "k") if ": " not in text]
            assert users == ["k1", "k2", "k3"]


async def test_a_withdrawn_stop_leaves_that_of_another(pair: Pair, bot: str) -> None:
    """Two ask to stop, the later one is withdrawn: the other still stops what waits before it."""
    one, two = pair
    name = "two."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await first_of(http, one, name, shield=1.5)
        second = await accept(http, one, name, f"{name}2", metadata={"seconds": 30})
        third = await accept(http, two, name, f"{name}3", double_texting="interrupt")
        fourth = await accept(http, two, name, f"{name}4", double_texting="rollback")
        assert (await http.delete(one.url + fourth["outcome"])).status_code == 200
        found = [await outcome(http, two, each) for each in (first, second, third)]
        assert found[0]["state"] in ("replied", "rolled_back")  # as it was asked before, or after
        assert said(found[1]) == []
        assert said(found[2]) == [f"begun: {name}3", f"done: {name}3"]


async def test_an_evicted_queue_loses_no_stop(
    pair: Pair, bot: str, redis_server: EmbeddedRedis
) -> None:
    """With the queue comes back what its messages ask of those before them."""
    one, two = pair
    name = "evicted."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await first_of(http, one, name, shield=0, until="evicted")
        second = await accept(http, one, name, f"{name}2", metadata={"seconds": 30})
        third = await accept(http, two, name, f"{name}3", double_texting="rollback")
        await asyncio.sleep(1.2)  # the first one has heard of it, also without bells
        async with Redis.from_url(redis_server.url) as redis:
            keys = [key async for key in redis.scan_iter(f"*{{{name}}}*")]
            lost = [key for key in keys if key.endswith((b":queue", b":waiters"))]
            assert len(lost) == 2
            await redis.delete(*lost)
        (one.folder / "evicted").touch()
        found = [await outcome(http, two, each) for each in (first, second, third)]
        assert [each["state"] for each in found] == ["rolled_back", "rolled_back", "replied"]
        assert noted(one, "begun", f"{name}2") is None


# -- what is said before it is stored --------------------------------------------------------------


async def lines_of(
    http: httpx.AsyncClient, at: Replica, name: str, text: str, **what: Any
) -> list[tuple[float, str]]:
    """What a stream gives, and when."""
    lines = []
    url = f"{at.url}/webhooks/rest/webhook?stream=true"
    sent = {"message": text, "message_id": text, "sender": name, "metadata": what}
    async with http.stream("POST", url, json=sent) as answer:
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            lines.append((time.time(), json.loads(line)["text"]))
    return lines


async def test_a_stream_at_another_replica(pair: Pair, bot: str) -> None:
    """The replies come as they are said, by bells; without those, all at the end."""
    one, two = pair
    name = "stream."
    async with httpx.AsyncClient(timeout=30) as http:
        await accept(http, one, name, f"{name}1", metadata={"seconds": 1})
        task = asyncio.create_task(lines_of(http, two, name, f"{name}2", shield=2, seconds=1))
        lines = await task
        wanted = [f"{word}: {name}2" for word in ("begun", "shielded", "done")]
        assert [text for _, text in lines] == wanted
        began = noted(one, "begun", f"{name}2")
        assert began is not None
        first, second, third = (moment - began for moment, _ in lines)
        if bot == "agent:bot":
            assert first < 1
            assert 2 <= second < 3
        else:
            assert first >= 3
        assert third >= 3


async def test_events_of_an_outcome_at_another_replica(pair: Pair, bot: str) -> None:
    """Who comes when the turn runs hears what is said from then on, marked; then all that is stored."""
    one, two = pair
    name = "events."
    async with httpx.AsyncClient(timeout=30) as http:
        first = await first_of(http, one, name, shield=3, seconds=1)
        headers = {"accept": "text/event-stream"}
        found: list[tuple[str, Any]] = []
        async with http.stream("GET", two.url + first["outcome"], headers=headers) as answer:
            kind = ""
            async for line in answer.aiter_lines():
                word, _, value = line.partition(": ")
                if word == "event":
                    kind = value
                elif word == "data":
                    found.append((kind, json.loads(value)))
        provisional = [data for kind, data in found if kind == "provisional"]
        assert all(data["provisional"] is True for data in provisional)
        heard = [(data["index"], data["text"]) for data in provisional]
        if bot == "agent:bot":
            assert (1, f"shielded: {name}1") in heard
        else:
            assert heard == []
        stored = [data["text"] for kind, data in found if kind == "reply"]
        assert stored == [f"{word}: {name}1" for word in ("begun", "shielded", "done")]
        assert found[0][0] == "state"
        assert found[-1][0] == "end"
