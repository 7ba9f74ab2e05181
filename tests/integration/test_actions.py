"""Actions on a real action server: rasa_sdk, with forms and slots, killed, stopped and restarted."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import until
from servers.replicas import Replica
from servers.sdk import SdkServer
from serving import client, send

from ticketlock import (
    ActionCall,
    ActionFailed,
    ActionRejected,
    ActionServerConnectionError,
    Conversations,
    Domain,
    Observer,
    Turn,
    UnknownAction,
)
from ticketlock.cli.config.check import check
from ticketlock.events import ActiveLoop, SlotSet, UserUttered
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Message
from ticketlock.telemetry.prometheus import PrometheusMetrics


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SdkServer]:
    with SdkServer(tmp_path_factory.mktemp("sdk")).running() as server:
        yield server


@pytest.fixture
def own_sdk(tmp_path: Path) -> Iterator[SdkServer]:
    """An action server that the test may kill or stop."""
    with SdkServer(tmp_path).running() as server:
        yield server


def at(server: SdkServer, **keys: Any) -> Conversations:
    return Conversations(action_endpoint={"url": server.url, **keys})


async def test_what_an_action_says_and_sets(sdk: SdkServer) -> None:
    async with at(sdk) as conversations:
        async with conversations.turn("c") as turn:
            turn.add(UserUttered("where is it?"), SlotSet("order", 17))
            await turn.run_action("action_check_order")
            assert turn.tracker.slots == {"order": 17, "state": "sent"}
            assert turn.tracker.followup_action == "action_listen"
        kept = await conversations.tracker_store.retrieve("c")
    executed, first, second, slot, followup = (e.as_dict() for e in kept.events[2:])
    assert executed["name"] == "action_check_order"
    assert first["text"] == "Order 17 is on its way. You said: where is it?"
    assert first["data"] == {"buttons": [{"title": "Thanks", "payload": "/thanks"}]}
    image = {"image": "http://host/map.png", "attachment": "http://host/map.png"}
    assert second["data"] == {**image, "custom": {"eta": 5}}
    assert second["metadata"] == {"extra": "kept"}
    assert (slot["event"], slot["value"]) == ("slot", "sent")
    assert (followup["event"], followup["name"]) == ("followup", "action_listen")


async def test_what_an_action_is_given(sdk: SdkServer) -> None:
    """The tracker of rasa_sdk has the state before the action, with what the turn has added."""
    async with at(sdk) as conversations:
        async with conversations.turn("c") as turn:
            turn.add(UserUttered("hi", input_channel="rest"), ActiveLoop("f"), SlotSet("s", [1]))
            await turn.run_action("action_echo")
            slots = turn.tracker.slots
    assert slots["got_slots"] == {"s": [1]}
    assert slots["got_events"] == ["user", "active_loop", "slot"]
    assert slots["got_loop"]["name"] == "f"
    assert slots["got_channel"] == "rest"
    assert slots["got_domain"] == Domain.from_dict({}).as_dict()


async def test_rejected_unknown_and_failed(sdk: SdkServer) -> None:
    """A rejection is an event too, as documented; the others add nothing, and the turn goes on."""
    async with at(sdk) as conversations:
        async with conversations.turn("c") as turn:
            turn.add(ActiveLoop("action_reject"))
            with pytest.raises(ActionRejected, match=r"action 'action_reject': .*: not now"):
                await turn.run_action("action_reject", policy="p", confidence=1.0)
            assert turn.tracker.active_loop["rejected"]
            with pytest.raises(UnknownAction, match="has no action of this name"):
                await turn.run_action("action_none")
            with pytest.raises(ActionFailed, match="answered 500: the order database is away"):
                await turn.run_action("action_fail")
            await turn.run_action("action_check_order")
        kept = await conversations.tracker_store.retrieve("c")
    kinds = [event.type_name for event in kept.events]
    assert kinds[:3] == ["active_loop", "action_execution_rejected", "action"]
    assert (kept.events[1].policy, kept.events[1].confidence) == ("p", 1.0)


async def booking(turn: Turn, message: Message) -> AsyncIterator[str]:
    """A bot with a form: what the user says is the slot that was asked for."""
    if not turn.tracker.active_loop:
        turn.add(ActiveLoop("booking_form"))
    else:
        turn.add(SlotSet(turn.tracker.slots["requested_slot"], message.text))
    await turn.run_action("validate_booking_form")
    if wanted := turn.tracker.slots["requested_slot"]:
        yield f"Which {wanted}?"
    else:
        yield {"action": "action_book"}  # type: ignore[misc]  # a mapping is a reply too


async def test_a_form(sdk: SdkServer) -> None:
    """A FormValidationAction asks for each slot, refuses a value, and is left when all are there."""
    async with client(booking, actions=sdk.url) as http:
        said = []
        for text in ("a table", "many", "4", "Friday"):
            answer = (await send(http, text, sender="anna")).json()
            said.append([reply["text"] for reply in answer])
        state = (await http.get("/conversations/anna/tracker")).json()
    assert said == [
        ["Which people?"], ["A table for many is not possible.", "Which people?"], ["Which day?"],
        ["A table for 4 on Friday is booked."],
    ]  # fmt: skip
    assert state["active_loop"] == {}
    assert state["slots"] == {"people": None, "day": None, "requested_slot": None}
    names = [event["name"] for event in state["events"] if event["event"] == "action"]
    assert names[-2:] == ["validate_booking_form", "action_book"]


async def test_execute(sdk: SdkServer) -> None:
    """The documented request: the tracker after the action, and what it said."""
    async with client(actions=sdk.url) as http:
        place = "/conversations/anna/execute"
        body = {"name": "action_check_order", "policy": "p", "confidence": 0.5}
        assert (await http.post(place, json=body)).status_code == 404  # there is no conversation
        await send(http, "hi", sender="anna")
        answer = (
            await http.post(f"{place}?include_events=ALL&output_channel=latest", json=body)
        ).json()
        texts = [message.get("text") for message in answer["messages"]]
        assert texts[0] == "Order None is on its way. You said: hi"
        (executed,) = [e for e in answer["tracker"]["events"] if e.get("name") == body["name"]]
        assert (executed["policy"], executed["confidence"]) == ("p", 0.5)
        assert answer["tracker"]["slots"]["state"] == "sent"
        rejected = await http.post(place, json={"name": "action_reject"})
        assert (rejected.status_code, rejected.json()["messages"]) == (200, [])
        assert rejected.json()["tracker"]["events"][-1]["event"] == "action_execution_rejected"
        for name, status in (("action_none", 404), ("", 400), (None, 400), ("action_fail", 500)):
            refused = await http.post(place, json={"name": name})
            assert refused.status_code == status
            if name == "action_none":
                assert "no action 'action_none'" in refused.json()["message"]
                assert refused.json()["help"].startswith("check the path, and the name")
        count = len((await http.get("/conversations/anna/tracker")).json()["events"])
        assert count == len(rejected.json()["tracker"]["events"])


async def test_the_action_server_is_killed_in_an_action(own_sdk: SdkServer) -> None:
    """The call is not made again: the action may have run."""
    async with at(own_sdk) as conversations:
        async with conversations.turn("c") as turn:
            calling = asyncio.create_task(turn.run_action("action_slow"))
            await until((own_sdk.folder / "begun").exists, "it has begun")
            own_sdk.kill()
            with pytest.raises(ActionServerConnectionError, match="may have run") as caught:
                await calling
            assert caught.value.sent
            assert not turn.tracker.events


async def test_the_action_server_hangs(own_sdk: SdkServer) -> None:
    """The error comes with the timeout, and the next call works when it goes on."""
    async with at(own_sdk, timeout=1) as conversations:
        async with conversations.turn("c") as turn:
            own_sdk.send_signal(signal.SIGSTOP)
            try:
                with pytest.raises(ActionServerConnectionError, match="no answer within 1 s"):
                    await turn.run_action("action_check_order")
            finally:
                own_sdk.send_signal(signal.SIGCONT)
        async with at(own_sdk) as others, others.turn("c") as turn:
            await turn.run_action("action_check_order")


async def test_an_action_server_that_is_restarted(tmp_path: Path) -> None:
    """A call waits for it; the bot's other turns are not held up."""
    server = SdkServer(tmp_path)
    async with at(server, retry_for=60) as conversations:
        async with conversations.turn("c") as turn:
            calling = asyncio.create_task(turn.run_action("action_check_order"))
            async with conversations.turn("d") as other:
                other.add(UserUttered("hi"))
            with server.running():
                await calling
            assert turn.tracker.slots["state"] == "sent"


async def test_messages_wait_for_an_action_server_that_is_away(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """An attempt without a call is not counted: what was accepted is handled when the server is back."""
    server, calls = SdkServer(tmp_path), []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        calls.append(message.text)
        yield {"action": "action_check_order"}

    locks = {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": "actions"}
    async with client(
        bot, (locks, None), actions=server.url, max_attempts=2, retry_time=0.1
    ) as http:
        app = http.app  # type: ignore[attr-defined]  # the server
        conversations = app.handler.conversations
        conversations.actions = at(server, retry_for=0).actions
        body = {"message": "hi", "sender": "anna", "message_id": "m"}
        accepted = await http.post("/webhooks/rest/webhook?async=true", json=body)
        assert accepted.status_code == 202
        await until(lambda: len(calls) > 4, "it was tried more often than max_attempts", 30)
        with server.running():
            outcome = await conversations.outcome("anna", "m", 30)
        assert (outcome.state, "Order None" in (outcome.text or "")) == ("replied", True)


async def test_an_awaited_message_does_not_wait_for_it(
    redis_server: EmbeddedRedis, tmp_path: Path
) -> None:
    """Its sender gets the error, and may send it again at any time: until then it does not run."""
    server, calls = SdkServer(tmp_path), []

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        calls.append(message.text)
        if message.text == "hi":
            yield {"action": "action_check_order"}
        else:
            yield "done"

    locks = {"type": "concurrent_redis", "url": redis_server.url, "key_prefix": "awaited"}
    async with client(bot, (locks, None), actions=server.url, max_attempts=2) as http:
        conversations = http.app.handler.conversations  # type: ignore[attr-defined]  # the server
        conversations.actions = at(server, retry_for=0).actions
        for _ in range(4):  # more often than max_attempts
            answer = await send(http, "hi", sender="anna", message_id="m")
            assert (answer.status_code, answer.json()["reason"]) == (503, "ActionServerUnavailable")
        assert (await send(http, "bye", sender="anna")).json()[0]["text"] == "done"
        assert calls == ["hi"] * 4 + ["bye"]
        with server.running():
            answer = await send(http, "hi", sender="anna", message_id="m")
        assert "Order None" in answer.json()[0]["text"]


async def test_who_waits_is_told_that_it_is_away(tmp_path: Path) -> None:
    """Without the address, which is the log's."""
    server = SdkServer(tmp_path)

    async def bot(turn: Turn, message: Message) -> AsyncIterator[Any]:
        turn.say("a moment")
        await turn.run_action("action_check_order")
        yield "done"

    async with client(bot) as http:
        http.app.handler.conversations.actions = at(server, retry_for=0).actions  # type: ignore[attr-defined]
        answer = await send(http, "hi", sender="anna")
        assert (answer.status_code, answer.json()["reason"]) == (503, "ActionServerUnavailable")
        assert str(server.port) not in answer.text
        assert (await http.get("/conversations/anna/tracker")).json()["events"] == []


async def test_calls_are_counted_and_observed(sdk: SdkServer) -> None:
    metrics = PrometheusMetrics()
    calls: list[ActionCall] = []

    class Watcher(Observer):
        def on_action(self, grant: Any, call: ActionCall) -> None:
            calls.append(call)

        def action_headers(self, grant: Any) -> dict[str, str]:
            return {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}

    async with at(sdk) as conversations:
        conversations.observe(metrics)
        conversations.observe(Watcher())
        async with conversations.turn("c") as turn:
            await turn.run_action("action_check_order")
            for name in ("action_none", "action_fail", "action_reject"):
                with pytest.raises((UnknownAction, ActionFailed, ActionRejected)):
                    await turn.run_action(name)
    assert [(call.name, call.number) for call in calls] == [
        ("action_check_order", 1), ("action_none", 2), ("action_fail", 3), ("action_reject", 4),
    ]  # fmt: skip
    assert [type(call.error).__name__ for call in calls] == [
        "NoneType", "UnknownAction", "ActionFailed", "ActionRejected",
    ]  # fmt: skip
    sample = metrics.registry.get_sample_value
    for result in ("ok", "unknown", "failed", "rejected"):
        assert sample("ticketlock_actions_total", {"result": result}) == 1
    assert sample("ticketlock_actions_total", {"result": "cancelled"}) == 0
    assert sample("ticketlock_action_duration_seconds_count") == 4


BOT = """
async def bot(turn, message):
    yield {"action": "action_check_order"}
"""


async def test_the_bot_server_reads_its_section(sdk: SdkServer, tmp_path: Path) -> None:
    """`ticketlock run` with the file, the bot beside it."""
    (tmp_path / "endpoints.yml").write_text(f"action_endpoint: {{url: '{sdk.url}'}}\n")
    (tmp_path / "orders.py").write_text(BOT)
    replica = Replica(tmp_path / "endpoints.yml", "--bot", "orders:bot")
    try:
        await asyncio.to_thread(replica.wait_ready)
        async with httpx.AsyncClient(base_url=replica.url) as http:
            answer = await send(http, "where?", sender="anna")
            assert answer.json()[0]["text"] == "Order None is on its way. You said: where?"
            body = {"name": "action_check_order"}
            executed = await http.post("/conversations/anna/execute", json=body)
            assert len(executed.json()["messages"]) == 3
    finally:
        replica.kill()


async def test_config_check_connects(sdk: SdkServer, tmp_path: Path) -> None:
    """To the action server that is there, and says what is wrong of one that is not."""
    path = tmp_path / "endpoints.yml"
    path.write_text(f"action_endpoint: {{url: '{sdk.url}', token: hidden}}\n")
    report = await check(path)
    row = report.components[-1]
    assert (row.section, row.problem) == ("action_endpoint", None)
    assert row.where == f"http://127.0.0.1:{sdk.port}"
    path.write_text("action_endpoint: {url: 'http://127.0.0.1:1/webhook', token: hidden}\n")
    row = (await check(path)).components[-1]
    assert row.problem is not None
    assert row.problem.startswith(f"{path}: action_endpoint: http://127.0.0.1:1: ")
    assert "is the action server running?" in row.problem
    path.write_text("action_endpoint: {urll: 'http://127.0.0.1:1/webhook', timeout: hidden}\n")
    row = (await check(path)).components[-1]
    assert row.problem is not None
    assert "did you mean url?" in row.problem
    assert "timeout" in row.problem
