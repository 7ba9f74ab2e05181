"""Twilio: SMS and its WhatsApp; replies by the Messages resource."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from starlette.responses import Response

from ...settings.channel_keys import TwilioKeys
from ..bot import Message
from ..errors import BadRequest
from ..settings import Settings
from .channel import Channel, same
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
    listed,
    parts,
    retry,
)

#: Most characters of a message, and fields of a form.
_TEXT, _FIELDS = 1600, 500
#: An answer without a reply, which is sent when the bot has it.
_NOTHING = '<?xml version="1.0" encoding="UTF-8"?><Response></Response>'


class Twilio(Channel):
    """An account of Twilio. A conversation is one user's with one of the account's numbers."""

    name = "twilio"

    def __init__(self, keys: TwilioKeys) -> None:
        self._sid, self._token = keys["account_sid"] or "", keys["auth_token"] or ""
        self._url = keys["webhook_url"] or ""
        login = base64.b64encode(f"{self._sid}:{self._token}".encode()).decode()
        self._headers = {
            "authorization": f"Basic {login}",
            "content-type": "application/x-www-form-urlencoded",
        }
        api = keys["api_url"].rstrip("/")
        self._api = f"{api}/2010-04-01/Accounts/{self._sid}/Messages.json"

    def verify(self, body: bytes, headers: Mapping[str, str], now: float) -> bool:
        try:
            form = _form(body)
        except ValueError:
            return False
        # Each value once, as Twilio's libraries have it.
        named = ((name, value) for name in sorted(form) for value in sorted({*form[name]}))
        signed = self._url + "".join(name + value for name, value in named)
        made = hmac.new(self._token.encode(), signed.encode(), hashlib.sha1).digest()
        return same(headers.get("x-twilio-signature"), base64.b64encode(made).decode())

    def read(self, body: bytes, settings: Settings) -> Any:
        try:
            return {name: values[-1] for name, values in _form(body).items()}
        except ValueError as error:
            raise BadRequest(f"the body is not a form: {error}") from None

    def messages(self, content: Any) -> list[Message]:
        form = content if isinstance(content, dict) else {}
        user, number, account, text, given = (
            value if isinstance(value := form.get(name), str) else ""
            for name in ("From", "To", "AccountSid", "Body", "MessageSid")
        )
        if account != self._sid or not user or not number:
            return self.ignored("form of another account, or without From or To")
        text = form.get("ButtonPayload") or text
        return self.message(self.conversation(number, user), given, text, user=user, number=number)

    def acknowledge(self, content: Any) -> Response:
        return Response(_NOTHING, media_type="application/xml")

    def serves(self, account: str) -> bool:
        return True  # a number: Twilio refuses those that are not the account's

    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        number, user, *_ = to
        for call in _calls(reply):
            form = {**call, "From": number, "To": user}
            yield Outgoing(self._api, self._headers, urlencode(form, errors="replace").encode())

    def judge(self, answer: Answer) -> Verdict:
        if 200 <= answer.status < 300:
            return Done()
        said = answered(answer.body)
        why = f"{said.get('code', '')} {said.get('message', 'no JSON of Twilio')}".strip()
        return (retry if is_passing(answer.status) else dead)(answer, why)


def _form(body: bytes) -> dict[str, list[str]]:
    """The fields of a form, in UTF-8. Raises ValueError."""
    return parse_qs(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_FIELDS)


def _calls(reply: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    text = listed(as_text(reply.get("text") or ""), buttons(reply))
    yield from ({"Body": part} for part in parts(text, _TEXT))
    if image := reply.get("image"):
        yield {"MediaUrl": as_text(image)}
    if attachment := reply.get("attachment"):
        yield {"Body": as_text(attachment)}
    if (custom := reply.get("custom")) is not None:
        given = isinstance(custom, Mapping)
        yield (
            {str(k): as_text(v) for k, v in custom.items()} if given else {"Body": as_text(custom)}
        )
