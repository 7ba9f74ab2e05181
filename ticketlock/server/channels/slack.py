"""Slack: the Events API and buttons; replies by `chat.postMessage`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from ...settings.channel_keys import SlackKeys
from ..bot import Message
from ..errors import BadRequest
from ..settings import Settings
from .channel import HOUR, TOLERANCE, Channel, at, hex_mac, items_at, same, text_at
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

#: Most characters of a text, of a text above buttons, of a title and of a payload; most buttons.
_TEXT, _SECTION, _TITLE, _VALUE, _BUTTONS = 4000, 3000, 75, 2000, 25
#: Messages of users, beside those without a subtype; others tell of edits, joins and bots.
_SUBTYPES = ("", "file_share", "me_message", "thread_broadcast")
#: Errors in an answer with status 200 that are not about the message.
_PASSING = (
    "ratelimited", "rate_limited", "message_limit_exceeded", "internal_error", "fatal_error",
    "service_unavailable", "request_timeout", "invalid_auth", "not_authed", "token_expired",
    "token_revoked", "account_inactive",
)  # fmt: skip


class Slack(Channel):
    """A Slack app in one workspace.

    A direct message belongs to the conversation of its channel, or of its thread if it is in one; a
    message in a channel begins a thread, which is a conversation (`use_threads`).
    """

    name = "slack"
    #: Slack tries again within minutes, and with *delayed events* each hour for a day.
    window = 25 * HOUR

    def __init__(self, keys: SlackKeys) -> None:
        self._secret = keys["signing_secret"] or ""
        self._headers = {"authorization": f"Bearer {keys['bot_token']}"}
        self._team = keys["team_id"]
        self._threads = keys["use_threads"]
        self._api = keys["api_url"].rstrip("/")

    def verify(self, body: bytes, headers: Mapping[str, str], now: float) -> bool:
        stamp = headers.get("x-slack-request-timestamp", "")
        if not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
            return False
        wanted = "v0=" + hex_mac(self._secret, b"v0:%b:%b" % (stamp.encode(), body))
        fresh = abs(now - int(stamp)) <= TOLERANCE
        return same(headers.get("x-slack-signature"), wanted) and fresh

    def read(self, body: bytes, settings: Settings) -> Any:
        if not body.startswith(b"payload="):  # which JSON cannot; buttons come as a form
            return super().read(body, settings)
        try:
            (payload,) = parse_qs(body.decode(), max_num_fields=1)["payload"]
        except (ValueError, KeyError):
            raise BadRequest("the form has no payload") from None
        return super().read(payload.encode(), settings)

    def messages(self, content: Any) -> list[Message]:
        # The header X-Slack-Retry-Num is not looked at: whether the first try was submitted is
        # known by the message's id alone.
        kind = text_at(content, "type")
        if kind == "event_callback" and text_at(content, "event", "type") in (
            "message", "app_mention",
        ):  # fmt: skip
            return self._event(content, content["event"])
        if kind == "block_actions":
            return self._button(content)
        return self.ignored(text_at(content, "event", "type") or kind)

    def acknowledge(self, content: Any) -> Response:
        if text_at(content, "type") == "url_verification":
            return JSONResponse({"challenge": text_at(content, "challenge")})
        return Response()

    def _event(self, content: Any, event: Any) -> list[Message]:
        subtype = text_at(event, "subtype")
        if at(event, "bot_id") is not None or subtype not in _SUBTYPES:
            return self.ignored(f"message of a bot, or {subtype}")
        text = text_at(event, "text")
        for one in items_at(content, "authorizations"):
            text = text.removeprefix(f"<@{text_at(one, 'user_id')}>")
        # The id is not the event's: a message that mentions the bot may come as two events.
        return self._said(
            text_at(content, "team_id"), text_at(event, "user"), text_at(event, "channel"),
            text_at(event, "ts"), text_at(event, "thread_ts"), _plain(text),
        )  # fmt: skip

    def _button(self, content: Any) -> list[Message]:
        found: list[Message] = []
        for one in items_at(content, "actions"):
            found += self._said(
                text_at(content, "team", "id"), text_at(content, "user", "id"),
                text_at(content, "channel", "id"), text_at(one, "action_ts"),
                text_at(content, "message", "thread_ts"), text_at(one, "value"),
            )  # fmt: skip
        return found

    def _said(
        self, team: str, user: str, channel: str, ts: str, thread: str, text: str
    ) -> list[Message]:
        if not (team and user and channel and ts) or not self.serves(team):
            return self.ignored("message without team, user, channel or ts, or of another team")
        direct = channel.startswith("D")
        place = thread or ("" if direct or not self._threads else ts)
        return self.message(
            self.conversation(team, channel, *([place] if place else [])), f"{channel}:{ts}",
            text.strip(), user=user, team=team, channel=channel, thread_ts=thread,
        )  # fmt: skip

    def serves(self, account: str) -> bool:
        return self._team is None or account == self._team

    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        _, channel, *thread = to
        place = {"channel": channel, **({"thread_ts": thread[0]} if thread else {})}
        for call in _calls(reply):
            yield json_post(f"{self._api}/chat.postMessage", {**call, **place}, self._headers)

    def judge(self, answer: Answer) -> Verdict:
        said = answered(answer.body)
        if answer.status == 200 and said.get("ok") is True:
            return Done()
        error = said.get("error", "no JSON of Slack")
        refused = said.get("ok") is False and error not in _PASSING
        if not is_passing(answer.status) or (refused and answer.status == 200):
            return dead(answer, error)
        return retry(answer, error)


def _plain(text: str) -> str:
    """The text without Slack's escapes."""
    return text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def _calls(reply: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    text, choices = as_text(reply.get("text") or ""), buttons(reply)[:_BUTTONS]
    *before, last = parts(text, _SECTION if choices else _TEXT) or [""]
    yield from ({"text": part} for part in before)
    if choices:
        section = {"type": "section", "text": {"type": "mrkdwn", "text": last}}
        elements = [
            {
                "type": "button", "action_id": str(number), "value": payload[:_VALUE],
                "text": {"type": "plain_text", "text": title[:_TITLE]},
            }
            for number, (title, payload) in enumerate(choices)
        ]  # fmt: skip
        actions = {"type": "actions", "elements": elements}
        fallback = last or ", ".join(title for title, _ in choices)
        yield {"text": fallback, "blocks": [*([section] if last else []), actions]}
    elif last:
        yield {"text": last}
    if image := reply.get("image"):
        url = as_text(image)
        yield {"text": url, "blocks": [{"type": "image", "image_url": url, "alt_text": "image"}]}
    if attachment := reply.get("attachment"):
        yield {"text": as_text(attachment)}
    if custom := reply.get("custom"):
        yield dict(custom) if isinstance(custom, Mapping) else {"text": as_text(custom)}
