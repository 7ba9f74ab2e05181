"""Actions and the domain: what of it they get, and its responses, by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from servers.deliveries import Receiver

from ticketlock import ActionFailed, Conversations, Domain
from ticketlock.events import UserUttered


def http(body: Any) -> bytes:
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 X\r\ncontent-length: %d\r\n\r\n%b" % (len(text), text)


NOTHING: dict[str, Any] = {"events": [], "responses": []}

DOMAIN = Domain.from_dict(
    {
        "actions": ["action_x", {"action_y": {"send_domain": True}}],
        "slots": {
            "city": {"type": "text", "initial_value": "Rome", "mappings": []},
            "degrees": {"type": "any", "mappings": []},
        },
        "responses": {
            "utter_weather": [
                {"text": "In {city} it is {degrees} degrees.", "buttons": [{"title": "a"}]},
                {"text": "{city}: {degrees}", "channel": "sms"},
            ]
        },
    }
)


async def test_the_domain_is_sent() -> None:
    """All of it; with `enable_selective_domain` only to an action that asks for it."""
    for selective, first in ((False, DOMAIN.as_dict()), (True, None)):
        async with Receiver().serving() as receiver:
            receiver.replies += [http(NOTHING)] * 2
            section = {"url": receiver.url, "enable_selective_domain": selective}
            async with Conversations(action_endpoint=section, domain=DOMAIN) as conversations:
                async with conversations.turn("c") as turn:
                    await turn.run_action("action_x")
                    await turn.run_action("action_y")
        bodies = [json.loads(one.body) for one in receiver.received]
        assert [body.get("domain") for body in bodies] == [first, DOMAIN.as_dict()]
        assert bodies[0]["tracker"]["slots"]["city"] == "Rome"


async def test_responses_of_the_domain(caplog: pytest.LogCaptureFixture) -> None:
    """By name, with the variables of the response and the slots, for the user's channel; buttons of
    both; one that is not in the domain is not said, as documented."""
    named = {"response": "utter_weather", "template": "utter_weather", "text": None, "degrees": 20}
    more = {**named, "buttons": [{"title": "b"}], "image": "http://h/i.png"}
    answer = {"responses": [more, {"response": "utter_none"}, {"text": "own"}]}
    async with Receiver().serving() as receiver:
        receiver.replies += [http(answer), http({"responses": [named]})]
        section = {"url": receiver.url}
        async with Conversations(action_endpoint=section, domain=DOMAIN) as conversations:
            async with conversations.turn("c") as turn:
                _, first, own = await turn.run_action("action_x")
                turn.add(UserUttered("hi", input_channel="sms"))
                _, second = await turn.run_action("action_x")
    wire = first.as_dict()
    assert wire["text"] == "In Rome it is 20 degrees."
    assert wire["data"]["buttons"] == [{"title": "a"}, {"title": "b"}]
    assert wire["data"]["attachment"] == wire["data"]["image"] == "http://h/i.png"
    assert wire["metadata"]["utter_action"] == "utter_weather"
    assert (own.as_dict()["text"], second.as_dict()["text"]) == ("own", "Rome: 20")
    assert "its response 'utter_none' is not in the domain" in caplog.text


async def test_a_response_as_an_action_is_said_without_a_call() -> None:
    async with Conversations(domain=DOMAIN) as conversations:
        async with conversations.turn("c") as turn:
            turn.add({"event": "slot", "name": "degrees", "value": 3})
            executed, said = await turn.run_action("utter_weather")
    assert (executed.type_name, executed.as_dict()["name"]) == ("action", "utter_weather")
    assert said.as_dict()["text"] == "In Rome it is 3 degrees."


async def test_a_server_that_asks_for_the_domain_gets_it() -> None:
    """A newer rasa_sdk answers 449 where it needs it, and has not run the action."""
    asked = b"HTTP/1.1 449 X\r\ncontent-length: 2\r\n\r\n{}"
    async with Receiver().serving() as receiver:
        receiver.replies += [asked, http(NOTHING)]
        section = {"url": receiver.url, "enable_selective_domain": True}
        async with Conversations(action_endpoint=section, domain=DOMAIN) as conversations:
            async with conversations.turn("c") as turn:
                await turn.run_action("action_x")
                receiver.replies += [asked, asked]
                with pytest.raises(ActionFailed, match="answered 449"):
                    await turn.run_action("action_x")
    bodies = [json.loads(one.body) for one in receiver.received]
    assert ["domain" in body for body in bodies] == [False, True, False, True]
    first, again = (one.headers["idempotency-key"] for one in receiver.received[:2])
    assert first == again
