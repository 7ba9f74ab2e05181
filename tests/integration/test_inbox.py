"""Messages that were accepted with 202 are handled: once, in order, whatever dies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from integration.test_server import said, texts
from servers.bot_server import Replica, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis


async def accept(
    http: httpx.AsyncClient, at: Replica, sender: str, text: str, **more: Any
) -> dict[str, Any]:
    """Submit a message; the body of the 202."""
    body = {"sender": sender, "message": text, "message_id": text, **more}
    answer = await http.post(f"{at.url}/webhooks/rest/webhook?async=true", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def outcome(
    http: httpx.AsyncClient, at: Replica, accepted: dict[str, Any], wait: float = 15
) -> dict[str, Any]:
    answer = await http.get(f"{at.url}{accepted['outcome']}", params={"wait": wait})
    assert answer.status_code == 200, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_what_a_killed_replica_accepted(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """The first is being handled, the others wait: the other replica handles all, in order."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            slow = {"metadata": {"seconds": 1}}
            accepted = [await accept(http, one, "a", text, **slow) for text in ("1", "2", "3")]
            assert [each["ticket"] for each in accepted] == [1, 2, 3]
            assert [each["position"] for each in accepted] == [0, 1, 2]
            assert {each["durability"] for each in accepted} == {"memory"}
            waits = {"state": "waiting", "ticket": 3, "position": 2, "attempts": 0}
            assert await outcome(http, two, accepted[2], 0) == waits
            one.process.kill()
            found = [await outcome(http, two, each) for each in accepted]
            assert [set(each) for each in found] == [{"state", "replies"}] * 3
            assert [each["state"] for each in found] == ["replied"] * 3
            assert [each["replies"][-1]["text"] for each in found] == [
                "done: 1",
                "done: 2",
                "done: 3",
            ]
            assert await texts(http, two, "a") == said("1", "2", "3")


async def test_all_replicas_are_gone_for_long(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Longer than every lease: a replica that starts later handles what was accepted."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, []) as [one]:
            slow = {"metadata": {"seconds": 2}}
            accepted = [await accept(http, one, "b", text, **slow) for text in ("1", "2", "3")]
            one.process.kill()
        await asyncio.sleep(8)
        with replicas(tmp_path, []) as [two]:
            found = [await outcome(http, two, each) for each in accepted]
            assert [each["state"] for each in found] == ["replied"] * 3
            assert await texts(http, two, "b") == said("1", "2", "3")


@pytest.mark.parametrize("signal", ["term", "stop"])
async def test_a_replica_that_drains_or_stands_still(
    redis_server: EmbeddedRedis, tmp_path: Path, signal: str
) -> None:
    """What waits is handed over at once, or after a lease; what the stopped one does late is refused."""
    import signal as signals

    write_files(tmp_path, redis_server.url, drain_timeout=5)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            accepted = [
                await accept(http, one, "c", text, metadata={"seconds": 1}) for text in "123"
            ]
            await asyncio.sleep(
                0.5
            )  # the bot has begun: stopped in a write it would keep SQLite locked
            number = signals.SIGTERM if signal == "term" else signals.SIGSTOP
            one.process.send_signal(number)
            found = [await outcome(http, two, each) for each in accepted]
            assert [each["state"] for each in found] == ["replied"] * 3
            one.process.send_signal(signals.SIGCONT)
            await asyncio.sleep(1)
            assert await texts(http, two, "c") == said("1", "2", "3")


async def test_withdraw_a_message_that_waits(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """It is never handled; one whose turn has begun cannot be withdrawn."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            first, second, third = [
                await accept(http, one, "d", text, metadata={"seconds": 1}) for text in "123"
            ]
            assert (await http.delete(two.url + first["outcome"])).status_code == 409
            assert (await http.delete(two.url + second["outcome"])).status_code == 200
            assert (await http.delete(two.url + second["outcome"])).status_code == 200
            assert (await outcome(http, two, third))["state"] == "replied"
            assert (await outcome(http, one, second))["state"] == "withdrawn"
            again = await accept(http, one, "d", "2")
            assert again["duplicate"]
            assert await texts(http, two, "d") == said("1", "3")


async def test_the_stream_of_an_outcome(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """States, provisional replies, then the stored ones with numbers; resumed behind the last."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            accepted = await accept(http, one, "e", "1", metadata={"seconds": 1})
            headers = {"accept": "text/event-stream"}
            events = []
            async with http.stream("GET", one.url + accepted["outcome"], headers=headers) as lines:
                event: dict[str, str] = {}
                async for line in lines.aiter_lines():
                    name, _, value = line.partition(": ")
                    event[name] = value
                    if not line and len(event) > 1:
                        events.append(event)
                        event = {}
            names = [event["event"] for event in events]
            assert names[0] == "state"
            assert names[-3:] == ["reply", "reply", "end"]
            assert json.loads(events[-1]["data"])["state"] == "replied"
            headers["last-event-id"] = "3"
            rest = await http.get(two.url + accepted["outcome"], headers=headers)
            assert rest.text.count("event: reply") == 1


async def test_tokens_are_signed(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """Another token is refused, also one whose conversation was changed."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            accepted = await accept(http, one, "f", "1")
            token = accepted["outcome"].rpartition("/")[2]
            for wrong in (
                token[:-2],
                "x" + token,
                "a.b",
                "é.é",
                "x" * 5000,
                token.partition(".")[0],
            ):
                assert (await http.get(f"{two.url}/webhooks/outcomes/{wrong}")).status_code == 401
            assert (await outcome(http, two, accepted))["state"] == "replied"


async def test_a_failing_message_is_tried_again(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Then it is a dead letter, and the next one is handled."""
    write_files(tmp_path, redis_server.url, max_attempts=3, retry_time=1)
    (tmp_path / "slow_bot.py").write_text(FAILING)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            accepted = [await accept(http, one, "g", text) for text in ("bad", "good")]
            found = [await outcome(http, two, each) for each in accepted]
            assert [each["state"] for each in found] == ["dead", "replied"]
            assert found[0]["error"]["reason"] == "ConversationError"
            assert "secret" not in json.dumps(found)
            lines = (tmp_path / "calls").read_text().split()
            assert lines == ["bad:1", "bad:2", "bad:3", "good:1"]
            warned = one.log() + two.log()
            assert warned.count("is a dead letter after 3 attempts: Conversation") == 1
            body = {"sender": "g", "message": "bad", "message_id": "bad"}
            for at in (one, two):  # its sender learns that it is not handled again
                again = await http.post(f"{at.url}/webhooks/rest/webhook", json=body)
                assert (again.status_code, again.json()["reason"]) == (409, "TooManyAttempts")
                assert "the bot failed: ValueError" in again.json()["message"]


FAILING = """
from pathlib import Path
async def bot(turn, message):
    with Path("calls").open("a") as file:
        print(f"{message.text}:{message.attempt}", file=file)
    yield message.text
    if message.text == "bad":
        raise ValueError("secret")
"""


async def test_a_client_that_leaves(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """An awaited message whose client went away is handled all the same."""
    write_files(tmp_path, redis_server.url)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            first = await accept(http, one, "h", "1", metadata={"seconds": 1})
            with pytest.raises(httpx.ReadTimeout):
                await http.post(
                    f"{two.url}/webhooks/rest/webhook",
                    json={"sender": "h", "message": "2", "message_id": "2"}, timeout=0.3,
                )  # fmt: skip
            one.process.kill()
            assert (await outcome(http, two, first))["state"] == "replied"
            found: list[str] = []

            async def handled() -> bool:
                found[:] = await texts(http, two, "h")
                return found == said("1", "2")

            end = asyncio.get_running_loop().time() + 10
            while not await handled():
                assert asyncio.get_running_loop().time() < end, found
                await asyncio.sleep(0.1)


async def test_an_awaited_message_that_fails_at_another_replica(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Its sender is told of the bot's error, and so is who asks for the outcome."""
    write_files(tmp_path, redis_server.url)
    (tmp_path / "slow_bot.py").write_text(GATED)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            await accept(http, two, "w", "wait")
            accepted = await accept(http, two, "w", "bad")
            body = {"sender": "w", "message": "bad", "message_id": "bad"}
            sent = asyncio.create_task(http.post(f"{one.url}/webhooks/rest/webhook", json=body))
            prefix = "".join(filter(str.isalnum, tmp_path.name))
            with redis.Redis.from_url(redis_server.url) as client:
                [key] = client.keys(f"{prefix}*:submitted")
                while b"!," not in (client.hget(key, "bad") or b""):  # it is awaited
                    await asyncio.sleep(0.02)
            (tmp_path / "go").touch()
            answer, why = await sent, "the bot failed: ValueError"
            assert (answer.status_code, answer.json()["message"]) == (500, why)
            found = await outcome(http, two, accepted)
            assert (found["state"], found["error"]["message"]) == ("failed", why)


GATED = """
import asyncio
from pathlib import Path
async def bot(turn, message):
    while not Path("go").exists():
        await asyncio.sleep(0.02)
    if message.text == "bad":
        raise ValueError
    yield message.text
"""


async def test_an_id_that_is_used_again_after_its_window(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """The replies to the earlier message are not those to a later one that fails at first."""
    write_files(tmp_path, redis_server.url, message_window=1, retry_time=1)
    (tmp_path / "slow_bot.py").write_text(FAILING_ONCE)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, []) as [one]:
            for text in ("first", "second"):
                accepted = await accept(http, one, "a", text, message_id="1")
                assert (await outcome(http, one, accepted))["replies"][0]["text"] == text
                while (await http.get(f"{one.url}{accepted['outcome']}")).status_code != 404:
                    await asyncio.sleep(0.05)
            assert await texts(http, one, "a") == ["first", "first", "second", "second"]


FAILING_ONCE = """
async def bot(turn, message):
    if (message.text, message.attempt) == ("second", 1):
        raise ValueError
    yield message.text
"""


async def test_a_sender_that_died_with_its_replica_is_not_told_of_an_error(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """The replica that takes its message tries it again, as one that no sender waits for."""
    write_files(tmp_path, redis_server.url, retry_time=1)
    (tmp_path / "slow_bot.py").write_text(FAILING_SECOND)
    async with httpx.AsyncClient(timeout=30) as http:
        with replicas(tmp_path, [], []) as (one, two):
            body = {"sender": "d", "message": "1", "message_id": "1"}
            sent = asyncio.create_task(http.post(f"{one.url}/webhooks/rest/webhook", json=body))
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.02)
            one.process.kill()
            with pytest.raises(httpx.TransportError):
                await sent
            end = asyncio.get_running_loop().time() + 20
            while await texts(http, two, "d") != ["1", "attempt 3"]:
                assert asyncio.get_running_loop().time() < end, two.log()
                await asyncio.sleep(0.1)


FAILING_SECOND = """
import asyncio
from pathlib import Path
async def bot(turn, message):
    if message.attempt == 1:
        Path("begun").touch()
        await asyncio.sleep(60)
    if message.attempt == 2:
        raise ValueError
    yield f"attempt {message.attempt}"
"""
