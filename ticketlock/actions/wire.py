"""What goes over a call of an action: its body, and the events and responses of its answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..aio.slices import Aside, sliced
from ..deliveries.delivery import digest_of
from ..errors import InvalidEvent
from ..events.codec import encoding
from ..events.fields import check_fields
from ..plain_json import brief, dumped
from ..tracker.rendering import state_json
from ..tracker.tracker import EventVerbosity, Tracker

#: Events and responses that an answer has at most.
MOST = 10_000


class InvalidAnswer(ValueError):
    """An answer is not as documented; the text names the field."""


def call_headers(conversation_id: str, fence: int, number: int, call: int) -> dict[str, str]:
    """The headers of a call.

    Args:
        number: of the turn's ticket.
        call: how many calls the turn has made, this one included.
    """
    return {
        "idempotency-key": f"{digest_of(conversation_id)}-{fence}-action-{call}",
        "ticketlock-conversation": quote(conversation_id, safe=""),
        "ticketlock-fence": str(fence),
        "ticketlock-number": str(number),
        "ticketlock-call": str(call),
    }


@dataclass(frozen=True)
class Answered:
    """What an action has returned.

    Attributes:
        events: as they came, checked.
        responses: the same; one may name a response of the domain.
    """

    events: list[dict[str, Any]]
    responses: list[dict[str, Any]]


async def request_body(name: str, tracker: Tracker, domain: bytes | None, version: str) -> bytes:
    """The body of a call.

    Args:
        domain: as JSON; None: the action does not get it.
    """
    state = await state_json(tracker, EventVerbosity.ALL)
    named = {"next_action": name, "sender_id": tracker.sender_id, "version": version}
    more = b"" if domain is None else b',"domain":' + domain
    return b'%b,"tracker":%b%b}' % (dumped(named)[:-1], state, more)


async def read_answer(body: bytes) -> Answered:
    """The events and responses of an answer. Raises InvalidAnswer."""
    async with Aside():
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            raise InvalidAnswer("is not JSON") from None
    if not isinstance(found, dict):
        raise InvalidAnswer(f"is {brief(found)}, not an object with events and responses")
    events, responses = _list(found, "events"), _list(found, "responses")
    if (count := len(events) + len(responses)) > MOST:
        raise InvalidAnswer(f"has {count} events and responses, more than {MOST}")
    try:
        await sliced(_checked(events))
    except InvalidEvent as error:
        raise InvalidAnswer(f"events: {error}") from None
    for place, response in enumerate(responses):
        _check_response(response, f"responses[{place}]")
    return Answered(events, responses)


def _list(found: Mapping[str, Any], name: str) -> list[Any]:
    value = found.get(name)
    if value is not None and not isinstance(value, list):
        raise InvalidAnswer(f"{name} is {brief(value)}, not a list")
    return value or []


def _checked(wires: list[Any]) -> Iterator[None]:
    for place, event in enumerate(encoding(wires)):
        check_fields(event.wire, f"event {place}")
        yield


def _check_response(response: Any, where: str) -> None:
    if not isinstance(response, dict):
        raise InvalidAnswer(f"{where} is {brief(response)}, not an object")
    for name, kind, what in (
        ("text", str, "a text"), ("response", str, "the name of a response"),
        ("buttons", list, "a list"),
    ):  # fmt: skip
        value = response.get(name)
        if value is not None and not isinstance(value, kind):
            raise InvalidAnswer(f"{where}.{name} is {brief(value)}, not {what}")


def message_of(response: Mapping[str, Any], draft: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a response says, for `events.reply.utterance`.

    Args:
        draft: the response of the domain that it names; what the response has itself comes first,
            and its buttons come after those of the draft.
    """
    made = dict(draft or {})
    buttons = [*(made.get("buttons") or []), *(response.get("buttons") or [])]
    made |= {k: v for k, v in response.items() if v and k not in ("response", "buttons")}
    if name := response.get("response"):
        made["utter_action"] = name
    if buttons:
        made["buttons"] = buttons
    return made
