"""Calls of actions beside those of a real Rasa, which `inside_rasa/action_facts.py` has recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from servers.deliveries import Receiver

from ticketlock import ActionRejected, Conversations, Domain

CASES = json.loads((Path(__file__).parents[2] / "inside_rasa" / "action_cases.json").read_text())
RASA = json.loads(Path(__file__).with_name("rasa.json").read_text())


def without_time(event: dict[str, Any]) -> dict[str, Any]:
    """An event to be compared: without its time, and without what `data` has as null."""
    made = {key: value for key, value in event.items() if key != "timestamp"}
    if isinstance(data := made.get("data"), dict):
        made["data"] = {key: value for key, value in data.items() if value is not None}
    return made


async def told(case: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is sent, and what the turn has afterwards."""
    body = json.dumps(case["answer"]).encode()
    head = f"HTTP/1.1 {case.get('status', 200)} X\r\ncontent-length: {len(body)}\r\n\r\n"
    async with Receiver().serving() as receiver:
        receiver.replies.append(head.encode() + body)
        domain = Domain.from_dict(CASES["domain"])
        section = {"url": receiver.url}
        async with Conversations(action_endpoint=section, domain=domain) as conversations:
            async with conversations.turn("anna") as turn:
                turn.add(*CASES["before"])
                before = len(turn.tracker.events)
                try:
                    await turn.run_action("action_x", policy="p", confidence=1.0)
                except ActionRejected:
                    assert case["status"] == 400
                tracker = turn.tracker
                added = [without_time(event.as_dict()) for event in tracker.events[before:]]
                state = {
                    "added": added,
                    "slots": dict(tracker.slots),
                    "active_loop": dict(tracker.active_loop),
                    "followup_action": tracker.followup_action,
                }
    return json.loads(receiver.received[0].body), state


@pytest.mark.parametrize("name", CASES["cases"])
async def test_what_follows_is_what_rasa_has(name: str) -> None:
    """The same events in the same order, and the same state."""
    _, ours = await told(CASES["cases"][name])
    theirs = RASA["cases"][name]
    assert ours == {**theirs, "added": [without_time(event) for event in theirs["added"]]}


async def test_what_is_sent_is_what_rasa_sends() -> None:
    """But for the version, which is ours."""
    sent, _ = await told(CASES["cases"]["nothing"])
    sent["tracker"]["events"] = [without_time(event) for event in sent["tracker"]["events"]]
    assert sent == {**RASA["sent"], "version": sent["version"]}
