"""`HTTPDestination`: a destination with an HTTP API, and what statuses mean."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from functools import partial

from .delivery import Dead, Delivery, Done, Retry, Verdict
from .destination import Destination, Part
from .poster import Answer, Outgoing, Poster, PostFailed

#: Refusals that may end: the time was too short, the order wrong, the requests too many.
_PASSING = (408, 409, 425, 429)


class HTTPDestination(Destination):
    """A destination with an HTTP API: one request for each part."""

    def __init__(self, poster: Poster) -> None:
        self._poster = poster
        self.timeout = poster.timeout

    @abstractmethod
    def requests(self, delivery: Delivery) -> Sequence[Outgoing]:
        """The requests that carry a delivery; none if there is nothing to send."""

    def judge(self, answer: Answer) -> Verdict:
        """What an answer says: `by_status`, unless the API says it in another way."""
        return by_status(answer.status, answer.headers)

    def parts(self, delivery: Delivery) -> Sequence[Part]:
        return [partial(self._send, outgoing) for outgoing in self.requests(delivery)]

    async def _send(self, outgoing: Outgoing) -> Verdict:
        try:
            answer = await self._poster.post(outgoing)
        except PostFailed as error:
            return Retry(str(error))
        return self.judge(answer)


def by_status(status: int, headers: Mapping[str, str]) -> Verdict:
    """2xx is done; 4xx is a dead letter, but for 408, 409, 425 and 429; all else is tried again."""
    if 200 <= status < 300:
        return Done()
    if 400 <= status < 500 and status not in _PASSING:
        return Dead(f"answered {status}")
    why = " (redirects are not followed)" if 300 <= status < 400 else ""
    return Retry(f"answered {status}{why}", retry_after(headers.get("retry-after", "")))


def retry_after(text: str) -> float:
    """Seconds that a header `Retry-After` asks for; 0 if it has none that can be read."""
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
