"""`Channel`: what an adapter does for one vendor, in both directions."""

from __future__ import annotations

import hashlib
import hmac
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, unquote

from starlette.responses import Response

from ..bot import Message
from ..intake import SIGNED_BODY
from ..json_limits import parse
from ..settings import Settings
from .sending import Answer, Delivery, Outgoing, Verdict

log = logging.getLogger("ticketlock.server")

#: Seconds by which a signed timestamp may differ from our clock.
TOLERANCE = 300
HOUR = 3600.0
#: What vendors' ids consist of, and what cannot separate the parts of a conversation's id.
_PLAIN = "+@=-._~"


class Submitter(Protocol):
    """What takes the messages: the server's `Handler`."""

    async def submit(
        self, message: Message, policy: str | None = None, *, window: float | None = None
    ) -> Any: ...


class Channel(ABC):
    """One vendor: verifies, reads and acknowledges its webhooks, and makes the requests of replies.

    Attributes:
        name: its name in the section `channels`, in paths, and before its conversations' ids.
        window: seconds in which the vendor may send a message again.
        max_body: most bytes of a webhook.
    """

    name: str
    window: float = HOUR
    max_body: int = SIGNED_BODY

    @property
    def path(self) -> str:
        """Where the vendor sends to."""
        return f"/webhooks/{self.name}/webhook"

    @abstractmethod
    def verify(self, body: bytes, headers: Mapping[str, str], now: float) -> bool:
        """Whether the vendor sent this body; secrets are compared in constant time.

        Args:
            headers: names in small letters.
            now: seconds since the epoch.
        """

    def read(self, body: bytes, settings: Settings) -> Any:
        """The content of a verified body. Raises BadRequest, TooMuch."""
        return parse(body, settings)

    @abstractmethod
    def messages(self, content: Any) -> list[Message]:
        """The users' messages in it, in order; whatever else it has is ignored."""

    def acknowledge(self, content: Any) -> Response:
        """The answer when all messages are submitted."""
        return Response()

    def challenge(self, query: Mapping[str, str]) -> Response | None:
        """The answer to a GET by which the vendor checks the address; None: it does not.

        Raises NotAuthorized.
        """
        return None

    def requests(self, delivery: Delivery) -> list[Outgoing]:
        """The requests that send the replies, in order.

        Raises ValueError if the conversation is not one of this channel's account.
        """
        to = self.address(delivery.conversation_id)
        return [one for reply in delivery.replies for one in self.outgoing(to, reply)]

    @abstractmethod
    def outgoing(self, to: list[str], reply: Mapping[str, Any]) -> Iterator[Outgoing]:
        """The requests of one reply.

        Args:
            to: what `address` gives: the account, and the parts after it.
        """

    @abstractmethod
    def judge(self, answer: Answer) -> Verdict:
        """What the vendor's answer to a request means."""

    @abstractmethod
    def serves(self, account: str) -> bool:
        """Whether this account is the one that is configured."""

    def conversation(self, account: str, *user: str) -> str:
        """The id of a conversation, `<channel>:<account>:<user>`; no two are the same."""
        return ":".join([self.name, *map(_quoted, (account, *user))])

    def address(self, conversation_id: str) -> list[str]:
        """Account and user of a conversation's id. Raises ValueError for another account."""
        name, *rest = conversation_id.split(":")
        to = [unquote(part) for part in rest]
        if name != self.name or len(to) < 2 or not self.serves(to[0]):
            raise ValueError(
                f"conversation {conversation_id!r} is not of the configured {self.name}"
            )
        return to

    def message(
        self, conversation_id: str, message_id: str, text: str, **metadata: Any
    ) -> list[Message]:
        """The message as a list; an empty one, and a line in the log, if it has no text or id."""
        if not text or not message_id:
            return self.ignored("message without text")
        kept = {key: value for key, value in metadata.items() if value}
        return [Message(text, conversation_id, message_id, self.name, kept)]

    def ignored(self, what: object) -> list[Message]:
        """No message, and a line in the log."""
        log.debug("%s: ignored: %.80s", self.name, what)
        return []


def _quoted(part: str) -> str:
    # JSON can have half a surrogate pair, which UTF-8 cannot.
    return quote(part, _PLAIN, errors="surrogatepass")


def hex_mac(secret: str, content: bytes) -> str:
    """The HMAC-SHA256 in hexadecimal."""
    return hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()


def same(given: str | None, wanted: str) -> bool:
    """Whether both are equal, compared in constant time."""
    return given is not None and hmac.compare_digest(
        given.encode("utf-8", "replace"), wanted.encode()
    )


def at(value: Any, *path: str) -> Any:
    """The value at a path of keys; None if it is not there."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text_at(value: Any, *path: str) -> str:
    """The text at a path; of a whole number its digits; empty if there is neither."""
    found = at(value, *path)
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return found if isinstance(found, str) else ""


def items_at(value: Any, *path: str) -> list[Any]:
    """The list at a path; empty if there is none."""
    found = at(value, *path)
    return found if isinstance(found, list) else []
