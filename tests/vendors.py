"""Slack, Telegram, Meta and Twilio as a channel sees them: keys, signed webhooks, deliveries."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
from serving import client

from ticketlock.server import Message
from ticketlock.server.channels import create_channel
from ticketlock.server.channels.channel import Channel

SECRET = "8f742231b10e8888abcd99yyyzzz85a5"
URL = "https://bot.example/webhooks/twilio/webhook"
META = {"app_secret": SECRET, "verify_token": "vibecoding", "access_token": "EAAG"}
KEYS: dict[str, dict[str, Any]] = {
    "slack": {"signing_secret": SECRET, "bot_token": "xoxb-1", "team_id": "T1"},
    "telegram": {"access_token": "42:token", "secret_token": SECRET},
    "whatsapp": {**META, "phone_number_id": "106"},
    "messenger": {**META, "page_id": "77"},
    "twilio": {"account_sid": "AC1", "auth_token": SECRET, "webhook_url": URL},
}
NAMES = tuple(KEYS)


def channel(name: str, **keys: Any) -> Channel:
    """A channel; `keys` are added to, or replace, those of `KEYS`."""
    return create_channel(name, {**KEYS[name], **keys})


def slack(text: str = "hi", ts: str = "1.5", **event: Any) -> dict[str, Any]:
    said = {"type": "message", "user": "U1", "channel": "D1", "text": text, "ts": ts, **event}
    return {"type": "event_callback", "team_id": "T1", "event": said}


def telegram(text: str = "hi", update: int = 9, **message: Any) -> dict[str, Any]:
    sender = {"id": 7, "is_bot": False}
    said = {"message_id": 3, "from": sender, "chat": {"id": 7}, "text": text, **message}
    return {"update_id": update, "message": said}


def whatsapp(*messages: dict[str, Any], number: str = "106", **value: Any) -> dict[str, Any]:
    made = {"metadata": {"phone_number_id": number}, "messages": list(messages), **value}
    entry = {"id": "1", "changes": [{"field": "messages", "value": made}]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def wa_text(text: str = "hi", given: str = "wamid.1", sender: str = "4917") -> dict[str, Any]:
    return {"from": sender, "id": given, "type": "text", "text": {"body": text}}


def messenger(*events: dict[str, Any], page: str = "77") -> dict[str, Any]:
    ends = {"sender": {"id": "5"}, "recipient": {"id": page}, "timestamp": 1}
    return {"object": "page", "entry": [{"messaging": [{**ends, **one} for one in events]}]}


def twilio(text: str = "hi", sid: str = "SM1", **form: str) -> dict[str, str]:
    ends = {"From": "+4917", "To": "+1800", "AccountSid": "AC1"}
    return {**ends, "Body": text, "MessageSid": sid, **form}


#: A webhook of each with one text.
ONE: dict[str, Any] = {
    "slack": slack(),
    "telegram": telegram(),
    "whatsapp": whatsapp(wa_text()),
    "messenger": messenger({"message": {"mid": "m1", "text": "hi"}}),
    "twilio": twilio(),
}


def encoded(name: str, content: Any) -> bytes:
    return (urlencode(content) if name == "twilio" else json.dumps(content)).encode()


def signed(name: str, body: bytes, now: float | None = None) -> dict[str, str]:
    """The headers with which the vendor sends a body."""
    if name == "slack":
        stamp = str(int(time.time() if now is None else now))
        made = hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, "sha256").hexdigest()
        return {"x-slack-request-timestamp": stamp, "x-slack-signature": f"v0={made}"}
    if name == "telegram":
        return {"x-telegram-bot-api-secret-token": SECRET}
    if name == "twilio":
        fields = sorted(parse_qsl(body.decode(), keep_blank_values=True))
        text = URL + "".join(key + value for key, value in fields)
        made = base64.b64encode(hmac.new(SECRET.encode(), text.encode(), hashlib.sha1).digest())
        return {"x-twilio-signature": made.decode()}
    return {
        "x-hub-signature-256": f"sha256={hmac.new(SECRET.encode(), body, 'sha256').hexdigest()}"
    }


@dataclass
class Inbox:
    """Takes the place of the handler's `submit`, and knows duplicates as it does."""

    taken: dict[tuple[str, str], Message] = field(default_factory=dict)
    windows: list[float | None] = field(default_factory=list)
    error: Exception | None = None

    async def submit(
        self, message: Message, policy: str | None = None, *, window: float | None = None
    ) -> None:
        if self.error is not None:
            raise self.error
        self.taken.setdefault((message.sender_id, message.message_id), message)
        self.windows.append(window)

    @property
    def said(self) -> list[tuple[str, str]]:
        return [(one.sender_id, one.text) for one in self.taken.values()]


class Server:
    """A server with all channels, and its inbox."""

    def __init__(self, http: httpx.AsyncClient, inbox: Inbox) -> None:
        self.http, self.inbox = http, inbox

    async def post(self, name: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return await self.http.post(f"/webhooks/{name}/webhook", content=body, headers=headers)

    async def deliver(self, name: str, content: Any) -> httpx.Response:
        """A webhook as the vendor sends it."""
        body = encoded(name, content)
        return await self.post(name, body, signed(name, body))


@asynccontextmanager
async def server(names: Sequence[str] = NAMES, **settings: Any) -> AsyncIterator[Server]:
    async with client(channels=[channel(name) for name in names], **settings) as http:
        inbox = Inbox()
        http.app.handler.submit = inbox.submit  # type: ignore[attr-defined]  # for the tests
        yield Server(http, inbox)


@dataclass(frozen=True)
class Replies:
    """A delivery."""

    conversation_id: str
    replies: tuple[dict[str, Any], ...]
    number: int = 1
    message_id: str = "m"
    attempt: int = 1
    fence: int = 1
