"""Domains as a real Rasa 3.6.21 reads them, recorded on 2026-11-26 in `rasa.json`.

`inside_rasa/domain_facts.py` printed that; `make rasa` compares it with what Rasa says now.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from serving import client, send
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import Domain, Tracker, read_domain
from ticketlock.domain.responses import filled, suitable
from ticketlock.events.reply import utterance

FACTS: dict[str, Any] = json.loads(Path(__file__).with_name("rasa.json").read_text())
DOMAINS = Path(__file__).parents[2] / "inside_rasa" / "domains"
ONE = read_domain(DOMAINS / "one.yml")


def after(domain: Domain, events: list[dict[str, Any]]) -> dict[str, Any]:
    tracker = InMemoryTrackerStore(domain).init_tracker("c")
    tracker.update_with_events(events)
    return tracker.slots


@pytest.mark.parametrize("name", FACTS["domains"])
def test_files_and_folders(name: str) -> None:
    """The form that actions get, the initial values of slots, and the sessions."""
    fact, domain = FACTS["domains"][name], read_domain(DOMAINS / name)
    assert sorted_lists(domain.as_dict()) == sorted_lists(fact["as_dict"])
    assert after(domain, []) == fact["slots"]
    assert vars(domain.session_config) == fact["session"]


def sorted_lists(data: dict[str, Any]) -> dict[str, Any]:
    """Rasa puts what later files declare first."""
    return {
        key: sorted(value, key=json.dumps) if isinstance(value, list) else value
        for key, value in data.items()
    }


@pytest.mark.parametrize(("name", "events", "slots"), FACTS["histories"])
def test_slots_after_events(name: str, events: list[Any], slots: dict[str, Any]) -> None:
    assert after(ONE, events) == slots


@pytest.mark.parametrize(("carry", "slots"), FACTS["sessions"])
async def test_slots_of_a_new_session(carry: bool, slots: dict[str, Any]) -> None:
    """With those of the one before, as session_config says, or with their initial values."""
    config = {"session_expiration_time": 5, "carry_over_slots_to_new_session": carry}
    store = InMemoryTrackerStore(Domain.from_dict({**ONE.as_dict(), "session_config": config}))
    user = {"event": "user", "text": "old", "timestamp": 1.0, "parse_data": {}}
    await store.save(Tracker.from_dict("default", [user, *FACTS["before"]]))
    async with client(None, (None, store)) as http:
        await send(http, "hi")
        assert (await http.get("/conversations/default/tracker")).json()["slots"] == slots


@pytest.mark.parametrize(("name", "channel", "slots", "variables", "said"), FACTS["responses"])
def test_variations_to_choose_from(
    name: str, channel: str, slots: dict[str, Any], variables: dict[str, Any], said: list[Any]
) -> None:
    found = suitable(ONE.responses[name], channel, slots)
    assert [filled(name, one, {**slots, **variables}) for one in found] == said
    chosen = ONE.response(name, channel, slots, variables)
    assert chosen in said if said else chosen is None


@pytest.mark.parametrize(("template", "said"), FACTS["templates"])
def test_variables(template: str, said: str) -> None:
    assert filled("utter_a", {"text": template}, FACTS["values"]) == {"text": said}


@pytest.mark.parametrize(("name", "fact"), FACTS["events"].items())
def test_events(name: str, fact: dict[str, Any]) -> None:
    """Rasa also stores what is None."""
    message = ONE.response(name, "rest", {"city": "Rome", "size": "small"})
    made = utterance({**(message or {}), "utter_action": name}).as_dict()
    data = {key: value for key, value in fact["data"].items() if value is not None}
    assert {key: made[key] for key in fact} == {**fact, "data": data}
