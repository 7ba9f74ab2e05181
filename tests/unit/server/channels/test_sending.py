"""Replies as the vendors' APIs take them, and what their answers mean; the peer is a stand-in."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from vendors import NAMES, Replies, channel

from ticketlock.server.channels.channel import Channel
from ticketlock.server.channels.sending import Answer, Dead, Done, Outgoing, Retry, Verdict, parts

CONVERSATION = {
    "slack": "slack:T1:C1:0.9",
    "telegram": "telegram:42:-5:11",
    "whatsapp": "whatsapp:106:4917",
    "messenger": "messenger:77:5",
    "twilio": "twilio:whatsapp%3A+18:whatsapp%3A+49",
}
#: Path and login of each API.
PLACE = {
    "slack": ("/chat.postMessage", "Bearer xoxb-1"),
    "telegram": ("/bot42:token/sendMessage", None),
    "whatsapp": ("/106/messages", "Bearer EAAG"),
    "messenger": ("/77/messages", "Bearer EAAG"),
    "twilio": (
        "/2010-04-01/Accounts/AC1/Messages.json",
        "Basic " + base64.b64encode(b"AC1:8f742231b10e8888abcd99yyyzzz85a5").decode(),
    ),
}
GOOD: dict[str, tuple[int, Any]] = {
    "slack": (200, {"ok": True, "ts": "1.0"}),
    "telegram": (200, {"ok": True, "result": {}}),
    "whatsapp": (200, {"messages": [{"id": "wamid.2"}]}),
    "messenger": (200, {"recipient_id": "5", "message_id": "m"}),
    "twilio": (201, {"sid": "SM2", "status": "queued"}),
}


class Api:
    """Takes the place of a vendor's API: keeps the calls, and gives the answers it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls: list[tuple[str, Any]] = []
        self.answers: list[Response] = []
        everything = Route("/{path:path}", self._call, methods=["POST"])
        self._app = Starlette(routes=[everything])

    async def _call(self, request: Request) -> Response:
        body = await request.body()
        form = "x-www-form" in request.headers["content-type"]
        content = dict(parse_qsl(body.decode())) if form else json.loads(body)
        assert request.headers.get("authorization") == PLACE[self.name][1]
        self.calls.append((request.url.path, content))
        status, good = GOOD[self.name]
        return self.answers.pop(0) if self.answers else JSONResponse(good, status)

    async def send(self, made: Channel, *replies: dict[str, Any]) -> list[Verdict]:
        """What became of each request of a delivery."""
        found = []
        async with httpx.AsyncClient(transport=httpx.ASGITransport(self._app)) as http:
            for one in made.requests(Replies(CONVERSATION[self.name], replies)):
                answer = await http.post(one.url, headers=dict(one.headers), content=one.body)
                headers = {key.lower(): value for key, value in answer.headers.items()}
                found.append(made.judge(Answer(answer.status_code, headers, answer.content)))
        return found


def asked(name: str, *replies: dict[str, Any]) -> list[Any]:
    """The bodies of the requests."""
    made = channel(name).requests(Replies(CONVERSATION[name], replies))
    return [json.loads(one.body) for one in made]


YES_NO = {"text": "Sure?", "buttons": [{"title": "Yes", "payload": "/yes"}, {"title": "No"}]}


@pytest.mark.parametrize("name", NAMES)
async def test_replies_are_sent(name: str) -> None:
    """Each kind of reply by a call of the vendor's API, in order, with its login."""
    api = Api(name)
    made = channel(name, api_url="http://127.0.0.1:1/")
    replies = [{"text": "one"}, YES_NO, {"image": "https://i/1.png"}, {"custom": {"text": "c"}}]
    assert await api.send(made, *replies) == [Done()] * 4
    assert api.calls[0][0] == PLACE[name][0]
    first = json.dumps([content for _, content in api.calls[:2]])
    assert first.index("one") < first.index("Sure?") < first.index("Yes")


def test_slack_calls() -> None:
    """In the conversation's thread; a custom reply cannot leave it."""
    place = {"channel": "C1", "thread_ts": "0.9"}
    assert asked("slack", {"text": "one"}) == [{"text": "one", **place}]
    (call,) = asked("slack", YES_NO)
    section, actions = call["blocks"]
    assert section["text"]["text"] == call["text"] == "Sure?"
    assert [(one["text"]["text"], one["value"]) for one in actions["elements"]] == [
        ("Yes", "/yes"), ("No", "No"),
    ]  # fmt: skip
    custom = {"channel": "C9", "blocks": [{"type": "divider"}]}
    assert asked("slack", {"custom": custom}) == [{"blocks": [{"type": "divider"}], **place}]
    (direct,) = channel("slack").requests(Replies("slack:T1:D1", ({"text": "x"},)))
    assert json.loads(direct.body) == {"text": "x", "channel": "D1"}


def test_telegram_calls() -> None:
    """In the chat's topic; payloads that are too long for buttons become keys."""
    (call,) = asked("telegram", YES_NO)
    assert (call["chat_id"], call["message_thread_id"]) == ("-5", "11")
    assert call["reply_markup"]["inline_keyboard"] == [
        [{"text": "Yes", "callback_data": "/yes"}], [{"text": "No", "callback_data": "No"}],
    ]  # fmt: skip
    (call,) = asked("telegram", {"buttons": [{"title": "Yes", "payload": "é" * 33}]})
    assert call["reply_markup"]["keyboard"] == [[{"text": "Yes"}]]
    for method, path in (
        ("sendSticker", "sendSticker"),
        ("../x", "sendMessage"),
        (1, "sendMessage"),
    ):
        delivery = Replies("telegram:42:7", ({"custom": {"method": method, "sticker": "s"}},))
        (one,) = channel("telegram").requests(delivery)
        assert one.url == f"https://api.telegram.org/bot42:token/{path}"


def test_whatsapp_calls() -> None:
    """Three short buttons are buttons; more, or longer ones, are lines of the text."""
    (call,) = asked("whatsapp", YES_NO)
    assert (call["to"], call["messaging_product"]) == ("4917", "whatsapp")
    rows = call["interactive"]["action"]["buttons"]
    assert [row["reply"] for row in rows] == [
        {"id": "/yes", "title": "Yes"}, {"id": "No", "title": "No"},
    ]  # fmt: skip
    (named,) = channel("whatsapp").requests(Replies("whatsapp:106:US.134", ({"text": "x"},)))
    assert json.loads(named.body)["recipient"] == "US.134"
    (call,) = asked("whatsapp", {"text": "Which?", "buttons": [{"title": t} for t in "abcd"]})
    assert call["text"]["body"] == "Which?\n- a\n- b\n- c\n- d"


def test_messenger_calls() -> None:
    """Buttons are quick replies."""
    (call,) = asked("messenger", YES_NO)
    assert call["recipient"] == {"id": "5"}
    assert [one["payload"] for one in call["message"]["quick_replies"]] == ["/yes", "No"]


def test_twilio_calls() -> None:
    """From the number that was written to."""
    (one,) = channel("twilio").requests(Replies(CONVERSATION["twilio"], (YES_NO,)))
    form = dict(parse_qsl(one.body.decode()))
    assert form == {"From": "whatsapp:+18", "To": "whatsapp:+49", "Body": "Sure?\n- Yes\n- No"}


RATE = {"error": {"code": 130429, "message": "(#130429) Rate limit hit"}}
WINDOW = {"error": {"code": 131047, "message": "Re-engagement message"}}


@pytest.mark.parametrize(
    ("name", "status", "headers", "body", "verdict"),
    [
        ("slack", 429, {"retry-after": "30"}, b'{"ok": false, "error": "ratelimited"}', 30),
        ("slack", 429, {"retry-after": "999999"}, b"", 3600),
        ("slack", 200, {"retry-after": "2"}, b'{"ok": false, "error": "ratelimited"}', 2),
        ("slack", 200, {}, b'{"ok": false, "error": "internal_error"}', 0),
        ("slack", 200, {}, b'{"ok": false, "error": "token_revoked"}', 0),
        ("slack", 200, {}, b'{"ok": false, "error": "channel_not_found"}', None),
        ("slack", 200, {}, b'{"ok": false, "error": "msg_too_long"}', None),
        ("slack", 200, {}, b"<html>", 0),
        ("slack", 302, {}, b"", 0),
        ("slack", 503, {}, b"", 0),
        ("telegram", 429, {}, b'{"ok": false, "parameters": {"retry_after": 35}}', 35),
        ("telegram", 403, {}, b'{"ok": false, "description": "Forbidden: bot was blocked"}', None),
        ("telegram", 400, {}, b'{"ok": false, "description": "chat not found"}', None),
        ("telegram", 401, {}, b'{"ok": false, "description": "Unauthorized"}', 0),
        ("telegram", 502, {}, b"bad gateway", 0),
        ("whatsapp", 400, {}, json.dumps(RATE).encode(), 0),
        ("whatsapp", 429, {"retry-after": "7"}, json.dumps(RATE).encode(), 7),
        ("whatsapp", 400, {}, json.dumps(WINDOW).encode(), None),
        ("whatsapp", 500, {}, b"", 0),
        ("messenger", 400, {}, b'{"error": {"code": 613, "message": "calls"}}', 0),
        ("messenger", 403, {}, b'{"error": {"code": 10, "message": "(#10) outside window"}}', None),
        ("messenger", 401, {}, b'{"error": {"code": 190, "message": "expired"}}', 0),
        ("twilio", 429, {"retry-after": "1"}, b'{"code": 20429, "message": "Too Many"}', 1),
        ("twilio", 400, {}, b'{"code": 21211, "message": "Invalid To"}', None),
        ("twilio", 503, {}, b"[]", 0),
    ],
)  # fmt: skip
def test_verdicts(
    name: str, status: int, headers: dict[str, str], body: bytes, verdict: float | None
) -> None:
    """What passes is tried again after the seconds that the vendor names; the rest is dead."""
    found = channel(name).judge(Answer(status, headers, body))
    if verdict is None:
        assert isinstance(found, Dead)
        assert str(status) in found.reason
    else:
        assert isinstance(found, Retry)
        assert found.after == verdict


@given(
    st.sampled_from(NAMES), st.integers(100, 599), st.text(max_size=9),
    st.binary(max_size=30) | st.sampled_from([b'{"ok": []}', b'{"error": []}', b'{"error": {"code": []}}', b'{"parameters": 1}', b'{"ok": true, "error": 1}', b"[" * 9999]),
)  # fmt: skip
def test_any_answer_has_a_verdict(name: str, status: int, wait: str, body: bytes) -> None:
    """None raises, and the reason is short."""
    found = channel(name).judge(Answer(status, {"retry-after": wait}, body))
    if not isinstance(found, Done):
        assert len(found.reason) <= 200
    if isinstance(found, Retry):
        assert 0 <= found.after <= 3600


VALUE = st.none() | st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=3), max_size=2)
REPLY = st.dictionaries(
    st.sampled_from(["text", "image", "attachment", "custom", "buttons"]),
    VALUE | st.dictionaries(st.text(max_size=5), VALUE, max_size=2)
    | st.lists(st.dictionaries(st.sampled_from(["title", "payload"]), VALUE), max_size=5),
)  # fmt: skip


@given(st.sampled_from(NAMES), st.lists(REPLY, max_size=3))
def test_any_reply_can_be_sent(name: str, replies: list[dict[str, Any]]) -> None:
    """Whatever a bot puts into it; and the same replies are the same requests."""
    delivery = Replies(CONVERSATION[name], tuple(replies))
    made = channel(name).requests(delivery)
    assert made == channel(name).requests(delivery)


def test_other_accounts_are_not_written_to() -> None:
    """A conversation of another channel or account is refused: the token is not its."""
    for name in NAMES:
        for other in ("anna", "slack:T2:D1", "telegram:43:7", "whatsapp:107:1", "messenger:7:5", "", ":", f"{name}:"):  # fmt: skip
            with pytest.raises(ValueError, match="is not of the configured"):
                channel(name).requests(Replies(other, ({"text": "x"},)))


@given(st.text(alphabet="ab \n", max_size=60), st.integers(1, 20))
def test_parts(text: str, limit: int) -> None:
    """None is too long, and nothing but space is lost."""
    made = parts(text, limit)
    assert all(0 < len(part) <= limit for part in made)
    assert "".join("".join(made).split()) == "".join(text.split())


def test_long_texts_are_split() -> None:
    """At the vendor's bound, with the buttons below the last part."""
    text = "word " * 2000
    for name, bound in (
        ("slack", 4000),
        ("telegram", 4096),
        ("whatsapp", 4096),
        ("messenger", 2000),
    ):
        calls = asked(name, {"text": text})
        assert len(calls) > 1
        assert all(len(json.dumps(call)) < bound + 200 for call in calls)
    *before, last = asked("slack", {**YES_NO, "text": text})
    assert "blocks" in last
    assert all("blocks" not in call for call in before)


def test_no_secret_is_shown() -> None:
    """Neither of a channel, nor of a request."""
    for name in NAMES:
        made = channel(name)
        shown = repr(made) + repr(made.requests(Replies(CONVERSATION[name], ({"text": "x"},))))
        for secret in ("8f742", "xoxb", "42:token", "EAAG", "vibecoding"):
            assert secret not in shown
    assert repr(Outgoing("u", {}, b"")) == "Outgoing()"
