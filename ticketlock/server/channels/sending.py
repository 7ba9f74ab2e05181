"""What an adapter makes of replies, and of the vendor's answer: requests and verdicts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...deliveries.delivery import Dead as Dead  # noqa: PLC0414  # adapters import all from here
from ...deliveries.delivery import Delivery as Delivery  # noqa: PLC0414
from ...deliveries.delivery import Done as Done  # noqa: PLC0414
from ...deliveries.delivery import Retry as Retry  # noqa: PLC0414
from ...deliveries.delivery import Verdict as Verdict  # noqa: PLC0414
from ...deliveries.poster import Answer as Answer  # noqa: PLC0414


@dataclass(frozen=True)
class Outgoing:
    """A POST. Its address and headers have secrets, which are not in the repr."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


#: Most seconds to wait, whatever a vendor says.
_LONGEST = 3600.0
#: Most characters of a vendor's reason.
_REASON = 200


def json_post(url: str, content: Mapping[str, Any], headers: Mapping[str, str]) -> Outgoing:
    """A POST of JSON."""
    kind = {"content-type": "application/json; charset=utf-8"}
    return Outgoing(url, {**headers, **kind}, json.dumps(content).encode())


def parts(text: str, limit: int) -> list[str]:
    """A text as several of at most `limit` characters, cut at a line end or space where possible."""
    found = []
    while len(text) > limit:
        cut = max(text.rfind("\n", 1, limit + 1), 0) or max(text.rfind(" ", 1, limit + 1), 0)
        cut = cut or limit
        found.append(text[:cut])
        text = text[cut:].lstrip("\n ") if cut < limit else text[cut:]
    return [*found, text] if text.strip() else found


def buttons(reply: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Titles and payloads of a reply's buttons; the title is the payload of one without."""
    given = reply.get("buttons")
    found = []
    for one in given if isinstance(given, list) else ():
        if isinstance(one, Mapping) and isinstance(title := one.get("title"), str) and title:
            payload = one.get("payload")
            found.append((title, payload if isinstance(payload, str) and payload else title))
    return found


def listed(text: str, choices: Sequence[tuple[str, str]]) -> str:
    """The text with the titles of buttons below it, for channels, or numbers, without any."""
    return "\n".join([text, *(f"- {title}" for title, _ in choices)]).strip()


def as_text(value: Any) -> str:
    """A text for what a channel cannot send in another way."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def answered(body: bytes) -> dict[str, Any]:
    """The JSON object of a vendor's answer; empty if it is none."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def seconds(value: Any) -> float:
    """Seconds to wait, from a header or JSON; 0 if it is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(number, _LONGEST) if number > 0 else 0.0  # of NaN too


def retry(answer: Answer, reason: object, after: Any = None) -> Retry:
    """The verdict on what may succeed later.

    Args:
        after: seconds that the body names; None: those of the header `Retry-After` count.
    """
    wait = answer.headers.get("retry-after") if after is None else after
    return Retry(_said(answer, reason), seconds(wait))


def dead(answer: Answer, reason: object) -> Dead:
    """The verdict on what the vendor refuses for good."""
    return Dead(_said(answer, reason))


def _said(answer: Answer, reason: object) -> str:
    return f"answered {answer.status}: {reason}"[:_REASON]


def is_passing(status: int) -> bool:
    """Whether such a failure may end: also a wrong token, which an operator can replace."""
    return status in (401, 408, 409, 425, 429) or not 400 <= status < 500
