"""What becomes a message, of which conversation, and what is acknowledged and ignored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vendors import (
    NAMES,
    ONE,
    channel,
    encoded,
    messenger,
    server,
    signed,
    slack,
    telegram,
    twilio,
    wa_text,
    whatsapp,
)

from ticketlock.errors import LockStoreConnectionError, QueueFull
from ticketlock.server.errors import Draining

Said = list[tuple[str, str]]


def said(name: str, content: Any, **keys: Any) -> Said:
    return [(one.sender_id, one.text) for one in channel(name, **keys).messages(content)]


THREAD = {"channel": "C1", "thread_ts": "0.9"}
BUTTON = {
    "type": "block_actions", "team": {"id": "T1"}, "user": {"id": "U1"}, "channel": {"id": "C1"},
    "message": {"ts": "2.0", "thread_ts": "0.9"}, "actions": [{"value": "/yes", "action_ts": "3.0"}],
}  # fmt: skip
MENTION = slack("<@UBOT> hi", channel="C1", type="app_mention") | {
    "authorizations": [{"user_id": "UBOT", "is_bot": True}]
}
PRESSED = {
    "update_id": 9,
    "callback_query": {
        "id": "q1", "from": {"id": 7, "is_bot": False}, "data": "/yes",
        "message": {"message_id": 3, "from": {"id": 42, "is_bot": True}, "chat": {"id": -5}},
    },
}  # fmt: skip
TOPIC = {"chat": {"id": -5}, "message_thread_id": 11, "is_topic_message": True}
WA_BUTTON = {
    "from": "49", "id": "w", "type": "interactive",
    "interactive": {"type": "button_reply", "button_reply": {"id": "/yes", "title": "Yes"}},
}  # fmt: skip
WA_IMAGE = {"from": "49", "id": "w", "type": "image", "image": {"id": "8", "caption": "look"}}


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("slack", slack(), [("slack:T1:D1", "hi")]),
        ("slack", slack(thread_ts="0.9"), [("slack:T1:D1:0.9", "hi")]),
        ("slack", slack(channel="C1"), [("slack:T1:C1:1.5", "hi")]),
        ("slack", slack(**THREAD), [("slack:T1:C1:0.9", "hi")]),
        ("slack", slack("a &lt;b&gt; &amp;amp;"), [("slack:T1:D1", "a <b> &amp;")]),
        ("slack", MENTION, [("slack:T1:C1:1.5", "hi")]),
        ("slack", BUTTON, [("slack:T1:C1:0.9", "/yes")]),
        ("slack", slack(subtype="file_share"), [("slack:T1:D1", "hi")]),
        ("telegram", telegram(), [("telegram:42:7", "hi")]),
        ("telegram", telegram(chat={"id": -5}), [("telegram:42:-5", "hi")]),
        ("telegram", telegram(**TOPIC), [("telegram:42:-5:11", "hi")]),
        ("telegram", PRESSED, [("telegram:42:-5", "/yes")]),
        ("telegram", telegram("", caption="look"), [("telegram:42:7", "look")]),
        ("whatsapp", whatsapp(wa_text("a"), wa_text("b", "wamid.2"), wa_text("c", "3", "50")),
         [("whatsapp:106:4917", "a"), ("whatsapp:106:4917", "b"), ("whatsapp:106:50", "c")]),
        ("whatsapp", whatsapp(WA_BUTTON, WA_IMAGE), [("whatsapp:106:49", "/yes"), ("whatsapp:106:49", "look")]),
        ("whatsapp", whatsapp({**wa_text(), "from": None, "from_user_id": "US.134"}),
         [("whatsapp:106:US.134", "hi")]),
        ("messenger", messenger({"message": {"mid": "1", "text": "a"}},
                                {"message": {"mid": "2", "text": "b", "quick_reply": {"payload": "/b"}}},
                                {"postback": {"mid": "3", "payload": "/c"}}),
         [("messenger:77:5", "a"), ("messenger:77:5", "/b"), ("messenger:77:5", "/c")]),
        ("twilio", twilio(), [("twilio:+1800:+4917", "hi")]),
        ("twilio", twilio(From="whatsapp:+49", To="whatsapp:+18"),
         [("twilio:whatsapp%3A+18:whatsapp%3A+49", "hi")]),
    ],
)  # fmt: skip
def test_messages(name: str, content: Any, expected: Said) -> None:
    """Each in the conversation that its users see as one."""
    assert said(name, content) == expected


def test_what_is_kept_of_a_message() -> None:
    """The vendor's id, by which what is sent again is known; the channel; and who wrote it."""
    ids = {name: channel(name).messages(ONE[name])[0].message_id for name in NAMES}
    assert ids == {
        "slack": "D1:1.5", "telegram": "9", "whatsapp": "wamid.1", "messenger": "m1", "twilio": "SM1",
    }  # fmt: skip
    (message,) = channel("slack").messages(slack(**THREAD))
    assert message.input_channel == "slack"
    assert message.metadata == {"user": "U1", "team": "T1", "channel": "C1", "thread_ts": "0.9"}


def test_a_channel_as_one_conversation() -> None:
    """Without `use_threads` only threads are conversations of their own."""
    assert said("slack", slack(channel="C1"), use_threads=False) == [("slack:T1:C1", "hi")]
    assert said("slack", slack(**THREAD), use_threads=False) == [("slack:T1:C1:0.9", "hi")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((name, content) for name in NAMES for content in ({}, {"type": "x", "object": "x"})),
        ("slack", slack(bot_id="B1")),
        ("slack", slack(subtype="bot_message")),
        ("slack", slack(subtype="message_changed")),
        ("slack", slack("")),
        ("slack", {**slack(), "team_id": "T2"}),
        ("slack", {"type": "event_callback", "team_id": "T1", "event": {"type": "reaction_added"}}),
        ("telegram", {"update_id": 1, "edited_message": telegram()["message"]}),
        ("telegram", telegram(**{"from": {"id": 7, "is_bot": True}})),
        ("telegram", telegram("", photo=[])),
        ("whatsapp", whatsapp(wa_text(), number="107")),
        ("whatsapp", whatsapp(statuses=[{"id": "wamid.1", "status": "read"}])),
        ("whatsapp", whatsapp({"from": "1", "id": "1", "type": "reaction", "reaction": {"emoji": "x"}})),
        ("messenger", messenger({"message": {"mid": "1", "text": "a"}}, page="78")),
        ("messenger", messenger({"message": {"mid": "1", "text": "a", "is_echo": True}})),
        ("messenger", messenger({"read": {"watermark": 1}}, {"delivery": {"mids": ["1"]}})),
        ("twilio", twilio(AccountSid="AC2")),
        ("twilio", twilio(MessageStatus="delivered", Body="")),
    ],
)  # fmt: skip
async def test_others_are_acknowledged_and_ignored(name: str, content: Any) -> None:
    """Other kinds, other accounts, bots, echoes and receipts: 200, and nothing is submitted."""
    async with server() as bot:
        assert (await bot.deliver(name, content)).status_code == 200
        assert bot.inbox.said == []


async def test_the_answers() -> None:
    """Empty, but for Slack's challenge, Telegram's buttons and Twilio's TwiML."""
    async with server() as bot:
        for name in ("slack", "telegram", "whatsapp", "messenger"):
            answer = await bot.deliver(name, ONE[name])
            assert (answer.status_code, answer.content) == (200, b""), name
        answer = await bot.deliver("slack", {"type": "url_verification", "challenge": "3eZb"})
        assert answer.json() == {"challenge": "3eZb"}
        answer = await bot.deliver("telegram", PRESSED)
        assert answer.json() == {"method": "answerCallbackQuery", "callback_query_id": "q1"}
        answer = await bot.deliver("twilio", ONE["twilio"])
        assert answer.headers["content-type"].startswith("application/xml")
        assert answer.text.endswith("<Response></Response>")


async def test_a_button_of_slack_comes_as_a_form() -> None:
    """Signed over the form, as it is."""
    async with server() as bot:
        body = urlencode({"payload": json.dumps(BUTTON)}).encode()
        assert (await bot.post("slack", body, signed("slack", body))).status_code == 200
        assert bot.inbox.said == [("slack:T1:C1:0.9", "/yes")]
        for body in (b"payload=", b"payload=%ff", b"payload={}&payload={}", b"payload=x"):
            assert (await bot.post("slack", body, signed("slack", body))).status_code == 400


@pytest.mark.parametrize("name", NAMES)
async def test_what_is_sent_again_is_one_message(name: str) -> None:
    """With the retry's header, in another event, beside others; known for the vendor's time."""
    async with server() as bot:
        body = encoded(name, ONE[name])
        for number in range(4):
            retry = {"x-slack-retry-num": str(number), "x-slack-retry-reason": "http_timeout"}
            headers = {**signed(name, body), **(retry if number else {})}
            assert (await bot.post(name, body, headers)).status_code == 200
        assert len(bot.inbox.taken) == 1
        days = 7 if name in ("whatsapp", "messenger") else 0
        assert set(bot.inbox.windows) == {channel(name).window}
        assert channel(name).window >= max(3600, days * 86400)


async def test_a_mention_is_the_same_message_twice() -> None:
    """Slack sends it as `message` and as `app_mention`, with two event ids."""
    async with server() as bot:
        await bot.deliver("slack", MENTION)
        await bot.deliver("slack", {**MENTION, "event": {**MENTION["event"], "type": "message"}})
        assert bot.inbox.said == [("slack:T1:C1:1.5", "hi")]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "error", [QueueFull("full", 1), LockStoreConnectionError("redis://user:pw@h"), KeyError("x"), Draining("x")]
)  # fmt: skip
async def test_what_cannot_be_submitted_is_sent_again(name: str, error: Exception) -> None:
    """503 with Retry-After and no word of the cause; the retry is then taken."""
    async with server() as bot:
        bot.inbox.error = error
        answer = await bot.deliver(name, ONE[name])
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "pw" not in answer.text
        bot.inbox.error = None
        assert (await bot.deliver(name, ONE[name])).status_code == 200
        assert len(bot.inbox.said) == 1


async def test_the_rest_of_a_body_survives_one_that_cannot_be_stored() -> None:
    """An id that no store can have is dropped; its neighbours are not."""
    others = [
        wa_text("a", "wamid.0", "4" * 300),
        wa_text("\ud800", "wamid.9"),
        wa_text("a", "w" * 300),
    ]
    async with server() as bot:
        answer = await bot.deliver("whatsapp", whatsapp(*others, wa_text("b")))
        assert answer.status_code == 200
        assert bot.inbox.said == [("whatsapp:106:4917", "b")]


async def test_half_a_character_is_no_error() -> None:
    """JSON may have it in an id: that message is dropped, and is not taken for another's."""
    async with server() as bot:
        content = whatsapp(wa_text(sender="\ud800"), wa_text(sender="?", given="2"))
        assert (await bot.deliver("whatsapp", content)).status_code == 200
        assert [sender for sender, _ in bot.inbox.said] == ["whatsapp:106:%3F"]


async def test_a_body_of_meta_may_be_larger() -> None:
    """It has many messages then."""
    many = [wa_text("x" * 900, str(number)) for number in range(400)]
    async with server() as bot:
        assert (await bot.deliver("whatsapp", whatsapp(*many))).status_code == 200
        assert len(bot.inbox.said) == 400


async def test_a_body_that_is_too_large_or_no_json() -> None:
    """413 before its signature is looked at, and 400 after."""
    async with server() as bot:
        for name, size in (("slack", 262_145), ("telegram", 262_145), ("whatsapp", 3_145_729)):
            body = b'"' + b"x" * (size - 2) + b'"'
            assert (await bot.post(name, body, signed(name, body))).status_code == 413, name
        for name in ("slack", "telegram", "whatsapp", "messenger"):
            for body in (b"", b"{", b"\xff", b"nan"):
                answer = await bot.post(name, body, signed(name, body))
                assert answer.status_code == 400, (name, body)
        assert bot.inbox.said == []


async def test_no_other_webhook_writes_into_a_channel() -> None:
    """The REST channel is refused what begins as a conversation of a channel that is served."""
    async with server(["slack"]) as bot:
        for sender, refused in (("slack:T1:D1", True), ("slack", False), ("telegram:42:7", False)):
            body = {"sender": sender, "message": "x"}
            answer = await bot.http.post("/webhooks/rest/webhook?async=true", json=body)
            assert (answer.status_code == 403) == refused, sender
        body = {"sender": "a", "message": "x", "input_channel": "slack"}
        answer = await bot.http.post("/webhooks/rest/webhook?async=true", json=body)
        assert answer.status_code == 403


def test_nobody_can_pose_as_another() -> None:
    """A colon in an id is encoded: no two accounts and users have one conversation."""
    slack = channel("slack")
    ids = {slack.conversation(*parts) for parts in (("a:b", "c"), ("a", "b:c"), ("a", "b", "c"), ("a%3Ab", "c"))}  # fmt: skip
    assert len(ids) == 4


@given(st.lists(st.text(), min_size=2, max_size=3, unique=True))
def test_an_address_is_its_conversation(parts: list[str]) -> None:
    """Whatever the ids are, they come back."""
    slack = channel("slack", team_id=None)
    assert slack.address(slack.conversation(*parts)) == parts


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def broken(content: Any, data: st.DataObject) -> Any:
    """The content with one of its values, at any depth, replaced or taken away."""
    if isinstance(content, (dict, list)) and content and data.draw(st.integers(0, 5)):
        keys = list(content) if isinstance(content, dict) else range(len(content))
        key = data.draw(st.sampled_from(list(keys)))
        made = content.copy()
        made[key] = broken(content[key], data)  # type: ignore[call-overload]  # of either
        return made
    return data.draw(JSON)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "twilio"])
@given(data=st.data())
def test_any_json_is_read(name: str, data: st.DataObject) -> None:
    """Any value, and any that differs from a webhook in one place: messages or none, no error."""
    samples = [ONE[name], *({"slack": [MENTION, BUTTON], "telegram": [PRESSED]}.get(name, []))]
    content = broken(data.draw(st.sampled_from(samples)), data)
    one = channel(name)
    for message in one.messages(content):
        assert message.sender_id.startswith(f"{name}:")
        assert message.text
        assert message.message_id
        json.dumps(message.metadata)
    one.acknowledge(content)


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=9)))
def test_any_form_is_read(form: dict[str, str]) -> None:
    """As JSON is."""
    twilio_ = channel("twilio")
    assert all(one.text for one in twilio_.messages({**twilio(), **form}))
    assert twilio_.messages(form) == []
