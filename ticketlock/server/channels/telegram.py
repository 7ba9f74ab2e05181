"""Telegram: the updates of `setWebhook`; replies by the Bot API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.responses import JSONResponse, Response

from ...settings.channel_keys import TelegramKeys
from ..bot import Message
from .channel import HOUR, Channel, at, same, text_at
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
    parts,
    retry,
)

#: Most characters of a text, and bytes of a button's payload.
_TEXT, _PAYLOAD = 4096, 64
_METHOD = re.compile(r"[A-Za-z]+")


class Telegram(Channel):
    """A bot of Telegram. A chat is a conversation, and so is each topic of a group with topics."""

    name = "telegram"
    #: Telegram keeps updates for a day.
    window = 25 * HOUR

    def __init__(self, keys: TelegramKeys) -> None:
        token = keys["access_token"] or ""
        self._secret = keys["secret_token"] or ""
        self._bot = token.partition(":")[0]
        self._api = f"{keys['api_url'].rstrip('/')}/bot{token}"

    def verify(self, body: bytes, headers: Mapping[str, str], now: float) -> bool:
        return same(headers.get("x-telegram-bot-api-secret-token"), self._secret)

    def messages(self, content: Any) -> list[Message]:
        update, pressed = text_at(content, "update_id"), at(content, "callback_query")
        message = at(content, "message") if pressed is None else at(pressed, "message")
        sender = at(message, "from") if pressed is None else at(pressed, "from")
        chat, user = text_at(message, "chat", "id"), text_at(sender, "id")
        if not (update and chat and user) or at(sender, "is_bot") is not False:
            return self.ignored("update that is no user's message")
        text = text_at(message, "text") or text_at(message, "caption")
        if pressed is not None:
            text = text_at(pressed, "data")
        topic = text_at(message, "message_thread_id") if at(message, "is_topic_message") else ""
        return self.message(
            self.conversation(self._bot, chat, *([topic] if topic else [])), update, text,
            user=user, chat=chat, message=text_at(message, "message_id"),
        )  # fmt: skip

    def acknowledge(self, content: Any) -> Response:
        pressed = text_at(content, "callback_query", "id")
        if not pressed:
            return Response()
        # The answer may have one call of the API; this one ends the button's progress bar.
        return JSONResponse({"method": "answerCallbackQuery", "callback_query_id": pressed})

    def serves(self, account: str) -> bool:
        return account == self._bot

    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        _, chat, *topic = to
        place = {"chat_id": chat, **({"message_thread_id": topic[0]} if topic else {})}
        for method, call in _calls(reply):
            yield json_post(f"{self._api}/{method}", {**call, **place}, {})

    def judge(self, answer: Answer) -> Verdict:
        said = answered(answer.body)
        if answer.status == 200 and said.get("ok") is True:
            return Done()
        why = said.get("description", "no JSON of Telegram")
        if is_passing(answer.status):
            return retry(answer, why, at(said, "parameters", "retry_after"))
        return dead(answer, why)


def _calls(reply: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Method and parameters of each call."""
    text, choices = as_text(reply.get("text") or ""), buttons(reply)
    if choices and not text:
        text = "…"  # a keyboard needs a text
    *before, last = parts(text, _TEXT) or [""]
    yield from (("sendMessage", {"text": part}) for part in before)
    if last:
        keyboard = {"reply_markup": _keyboard(choices)} if choices else {}
        yield "sendMessage", {"text": last, **keyboard}
    if image := reply.get("image"):
        yield "sendPhoto", {"photo": as_text(image)}
    if attachment := reply.get("attachment"):
        yield "sendMessage", {"text": as_text(attachment)}
    if (custom := reply.get("custom")) is not None:
        if not isinstance(custom, Mapping):
            yield "sendMessage", {"text": as_text(custom)}
            return
        call = dict(custom)
        method = call.pop("method", "sendMessage")
        known = isinstance(method, str) and _METHOD.fullmatch(method)  # it goes into the path
        yield method if known else "sendMessage", call


def _keyboard(choices: list[tuple[str, str]]) -> dict[str, Any]:
    """Buttons below the message; keys with their titles if a payload is too long for that."""
    if all(len(payload.encode(errors="replace")) <= _PAYLOAD for _, payload in choices):
        return {"inline_keyboard": [[{"text": t, "callback_data": p}] for t, p in choices]}
    return {"keyboard": [[{"text": title}] for title, _ in choices], "one_time_keyboard": True}
