"""Meta: WhatsApp (Cloud API) and Messenger, whose webhooks are signed alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import PlainTextResponse, Response

from ...settings.channel_keys import MessengerKeys, MetaKeys, WhatsAppKeys
from ..bot import Message
from ..errors import NotAuthorized
from .channel import HOUR, Channel, at, hex_mac, items_at, same, text_at
from .sending import (
    Answer,
    Done,
    Outgoing,
    Verdict,
    answered,
    as_text,
    buttons,
    dead,
    is_passing,
    json_post,
    listed,
    parts,
    retry,
)

#: Codes of errors that pass: too many requests, services that are down, a token that has expired.
_PASSING = (1, 2, 4, 17, 32, 190, 613, 1200, 80006, 80007, 130429, 131000, 131016, 131048, 131056)
#: Most characters of texts and of buttons' titles, and most buttons: WhatsApp, Messenger.
_WA_TEXT, _WA_BODY, _WA_TITLE, _WA_ID, _WA_BUTTONS = 4096, 1024, 20, 256, 3
_FB_TEXT, _FB_TITLE, _FB_PAYLOAD, _FB_BUTTONS = 2000, 20, 1000, 13


class _Meta(Channel):
    """What both have in common."""

    #: Meta tries again for days.
    window = 7 * 24 * HOUR
    #: Meta's bound: a body may have many messages.
    max_body = 3 * 1024 * 1024

    def __init__(self, keys: MetaKeys) -> None:
        self._secret = keys["app_secret"] or ""
        self._verify = keys["verify_token"] or ""
        self._headers = {"authorization": f"Bearer {keys['access_token']}"}
        self._api = keys["api_url"].rstrip("/")
        self._account = ""

    def verify(self, body: bytes, headers: Mapping[str, str], now: float) -> bool:
        return same(headers.get("x-hub-signature-256"), "sha256=" + hex_mac(self._secret, body))

    def challenge(self, query: Mapping[str, str]) -> Response | None:
        known = same(query.get("hub.verify_token"), self._verify)
        if not known or query.get("hub.mode") != "subscribe":
            raise NotAuthorized("hub.verify_token is not the verify_token of this channel")
        return PlainTextResponse(query.get("hub.challenge", ""))

    def serves(self, account: str) -> bool:
        return account == self._account

    def judge(self, answer: Answer) -> Verdict:
        if answer.status == 200:
            return Done()
        error = at(answered(answer.body), "error")
        code, why = at(error, "code"), text_at(error, "message") or "no JSON of Meta"
        passing = code in _PASSING or at(error, "is_transient") is True
        if passing or is_passing(answer.status):
            return retry(answer, why)
        return dead(answer, why)

    def _post(self, call: Mapping[str, Any]) -> Outgoing:
        return json_post(f"{self._api}/{self._account}/messages", call, self._headers)


class WhatsApp(_Meta):
    """A number of the WhatsApp Cloud API."""

    name = "whatsapp"

    def __init__(self, keys: WhatsAppKeys) -> None:
        super().__init__(keys)
        self._account = keys["phone_number_id"] or ""

    def messages(self, content: Any) -> list[Message]:
        found: list[Message] = []
        if text_at(content, "object") != "whatsapp_business_account":
            return self.ignored(text_at(content, "object"))
        for entry in items_at(content, "entry"):
            for change in items_at(entry, "changes"):
                number = text_at(change, "value", "metadata", "phone_number_id")
                if text_at(change, "field") != "messages" or not self.serves(number):
                    self.ignored(f"change of {text_at(change, 'field')}, or of another number")
                    continue
                for message in items_at(change, "value", "messages"):  # `statuses` are beside it
                    found += self._said(number, message)
        return found

    def _said(self, number: str, message: Any) -> list[Message]:
        kind = text_at(message, "type")
        # A user with a username may keep the number to themselves, and has an id instead.
        user = text_at(message, "from") or text_at(message, "from_user_id")
        if not user:
            return self.ignored("message without a sender")
        return self.message(
            self.conversation(number, user), text_at(message, "id"), _whatsapp_text(kind, message),
            user=user, type=kind, media=text_at(message, kind, "id"),
        )  # fmt: skip

    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        user = {"to" if to[1].isdecimal() else "recipient": to[1]}
        for call in _whatsapp_calls(reply):
            yield self._post({**call, "messaging_product": "whatsapp", **user})


def _whatsapp_text(kind: str, message: Any) -> str:
    if kind == "text":
        return text_at(message, "text", "body")
    if kind == "button":
        return text_at(message, "button", "payload")
    if kind == "interactive":
        reply = text_at(message, "interactive", "type")
        return text_at(message, "interactive", reply, "id")
    return text_at(message, kind, "caption")


def _whatsapp_calls(reply: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    text, choices = as_text(reply.get("text") or ""), buttons(reply)
    pressed = 0 < len(choices) <= _WA_BUTTONS and all(
        len(title) <= _WA_TITLE and len(payload) <= _WA_ID for title, payload in choices
    )
    if not pressed:  # so many, or such long ones, are no buttons
        text = listed(text, choices)
    *before, last = parts(text, _WA_BODY if pressed else _WA_TEXT) or [""]
    yield from (_text(part) for part in before)
    if pressed:
        rows = [{"type": "reply", "reply": {"id": p, "title": t}} for t, p in choices]
        made = {"type": "button", "body": {"text": last or "…"}, "action": {"buttons": rows}}
        yield {"type": "interactive", "interactive": made}
    elif last:
        yield _text(last)
    if image := reply.get("image"):
        yield {"type": "image", "image": {"link": as_text(image)}}
    if attachment := reply.get("attachment"):
        yield _text(as_text(attachment))
    if (custom := reply.get("custom")) is not None:
        yield dict(custom) if isinstance(custom, Mapping) else _text(as_text(custom))


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": {"body": text}}


class Messenger(_Meta):
    """A page of Messenger."""

    name = "messenger"

    def __init__(self, keys: MessengerKeys) -> None:
        super().__init__(keys)
        self._account = keys["page_id"] or ""

    def messages(self, content: Any) -> list[Message]:
        found: list[Message] = []
        if text_at(content, "object") != "page":
            return self.ignored(text_at(content, "object"))
        for entry in items_at(content, "entry"):
            for event in items_at(entry, "messaging"):
                found += self._said(event)
        return found

    def _said(self, event: Any) -> list[Message]:
        user, page = text_at(event, "sender", "id"), text_at(event, "recipient", "id")
        message, postback = at(event, "message"), at(event, "postback")
        echo = at(message, "is_echo") is not None
        if not user or echo or not self.serves(page) or (message is None and postback is None):
            return self.ignored("echo, receipt, or an event of another page")
        if message is None:
            # An older postback has no id.
            given = text_at(postback, "mid") or f"postback:{text_at(event, 'timestamp')}"
            text = text_at(postback, "payload")
        else:
            given = text_at(message, "mid")
            text = text_at(message, "quick_reply", "payload") or text_at(message, "text")
        return self.message(self.conversation(page, user), given, text, user=user)

    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        for message in _messenger_messages(reply):
            call = {"recipient": {"id": to[1]}, "messaging_type": "RESPONSE", "message": message}
            yield self._post(call)


def _messenger_messages(reply: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    text, choices = as_text(reply.get("text") or ""), buttons(reply)[:_FB_BUTTONS]
    if choices and not text:
        text = "…"  # quick replies need a text
    *before, last = parts(text, _FB_TEXT) or [""]
    yield from ({"text": part} for part in before)
    if last:
        quick = [
            {"content_type": "text", "title": t[:_FB_TITLE], "payload": p[:_FB_PAYLOAD]}
            for t, p in choices
        ]
        yield {"text": last, **({"quick_replies": quick} if quick else {})}
    if image := reply.get("image"):
        yield {"attachment": {"type": "image", "payload": {"url": as_text(image)}}}
    if attachment := reply.get("attachment"):
        given = isinstance(attachment, Mapping)
        yield {"attachment": attachment} if given else {"text": as_text(attachment)}
    if (custom := reply.get("custom")) is not None:
        yield dict(custom) if isinstance(custom, Mapping) else {"text": as_text(custom)}
