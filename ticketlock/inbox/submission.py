"""What is submitted, what its sender gets, and what becomes of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as field_of
from typing import Any, Literal, get_args

from ..checks import check_conversation_id, check_seconds
from ..locks.incoming import MAX_ID, WINDOW, field

#: What a message does while another one of its conversation waits or is handled.
Mode = Literal["enqueue", "coalesce", "interrupt", "rollback"]
_MODES = get_args(Mode)
#: What has become of a message. `due`: it comes due later. `failed`: its sender got the error, and may send it again.
State = Literal["due", "waiting", "running", "replied", "failed", "dead", "withdrawn", "unknown"]
#: States of finished messages, by the letters that outcomes have in scripts.
FINISHED: dict[str, State] = {"d": "replied", "e": "failed", "x": "dead", "v": "withdrawn"}
#: Bytes of the longest message.
MAX_MESSAGE = 1024 * 1024


@dataclass(frozen=True)
class Submission:
    """A message to submit.

    Attributes:
        message_id: at most 256 characters, unique in the conversation.
        text: the message, as its handler reads it; at most 1 MiB.
        mode: what it does while another one waits or is handled.
        window: seconds for which its outcome is kept.
        max_waiting: how many may wait already; None: any number; 0: it is handled at once or refused.
        lock_lifetime: seconds that its turn may last.
    """

    conversation_id: str
    message_id: str
    text: str
    mode: Mode = "enqueue"
    window: float = WINDOW
    max_waiting: int | None = None
    lock_lifetime: float = 60.0

    def __post_init__(self) -> None:
        plain = check_conversation_id(self.conversation_id)
        object.__setattr__(self, "conversation_id", plain)
        if not isinstance(self.message_id, str) or not 0 < len(self.message_id) <= MAX_ID:
            raise ValueError(
                f"a message id must be text of 1 to {MAX_ID} characters, not {self.message_id!r:.80}"
            )
        if not isinstance(self.text, str) or _size(self.text) > MAX_MESSAGE:
            raise ValueError(f"a message must be text of at most {MAX_MESSAGE} bytes")
        self.message_id.encode()  # a lone surrogate is not valid text
        if self.mode not in _MODES:
            raise ValueError(
                f"mode is one of {', '.join(_MODES)}, not {self.mode!r:.80}; to reject a "
                "message that would have to wait, submit it with max_waiting=0"
            )
        check_seconds("window", self.window, above=True)
        check_seconds("lock_lifetime", self.lock_lifetime, above=True)

    @property
    def field(self) -> str:
        """The id as it is stored."""
        return field(self.message_id)


def _size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


@dataclass(frozen=True)
class Terms:
    """What a message keeps of its own for the process that serves it; see `Submission`."""

    window: float
    lock_lifetime: float

    def text(self, hold: int) -> str:
        """As scripts store them; `hold`: milliseconds after which Redis ends its turn."""
        return f"@{round(1000 * self.window)}:{hold}:{round(1000 * self.lock_lifetime)}"

    @classmethod
    def read(cls, listeners: bytes) -> Terms | None:
        """Those that stand among the listeners of a message, if it has some."""
        found = re.search(rb"@(\d+):\d+:(\d+)", listeners)
        return found and cls(int(found[1]) / 1000, int(found[2]) / 1000)


@dataclass(frozen=True)
class MessageOutcome:
    """What has become of a message.

    Attributes:
        number: its ticket number; 0: not known any more.
        position: turns before it; 0: it is being handled, or was.
        attempts: calls of the handler that ended without a result.
        text: the reply of its handler; of a failure, a description as JSON.
        due: seconds since the epoch at which it comes due, if it is not yet.
    """

    state: State
    number: int = 0
    position: int = 0
    attempts: int = 0
    text: str | None = None
    due: float | None = None

    @property
    def finished(self) -> bool:
        """Whether it stays so."""
        return self.state in ("replied", "failed", "dead", "withdrawn")


@dataclass(frozen=True)
class Receipt:
    """What the sender of a message gets.

    Attributes:
        number: its ticket number; 0: another ticket has the message, or had it.
        position: turns before it, the one that runs included.
        known: it was submitted before.
        outcome: if it is finished already.
        message_id: its id, as `outcome` takes it.
        due: seconds since the epoch at which it comes due, if that is later.
    """

    number: int
    position: int = 0
    known: bool = False
    outcome: MessageOutcome | None = None
    message_id: str = ""
    due: float | None = None


@dataclass(frozen=True)
class SubmittedMessage:
    """A message that is not finished, for operators.

    Attributes:
        waited: seconds since it was submitted.
        running: whether its turn runs.
    """

    conversation_id: str
    message_id: str
    number: int
    waited: float
    attempts: int
    running: bool
    mode: str
    text: str

    def as_dict(self, *, texts: bool = True) -> dict[str, Any]:
        """For JSON; `texts`: with the message, which is personal data."""
        return {key: value for key, value in vars(self).items() if texts or key != "text"}


@dataclass(frozen=True)
class Pending:
    """A conversation with messages that are not finished, or replies to send out, for operators.

    Attributes:
        messages: how many there are.
        waited: seconds since the first of them was submitted.
        attempts: calls of the handler with the first one that ended without a result.
        running: whether its turn runs.
        deliveries: replies of turns that are still to be sent out.
    """

    conversation_id: str
    messages: int
    waited: float
    attempts: int
    running: bool
    deliveries: int = 0

    @property
    def state(self) -> str:
        """`runs` or `waits`, of its messages; `replies`: only replies are still to be sent out."""
        return "runs" if self.running else "waits" if self.messages else "replies"

    def as_dict(self) -> Mapping[str, Any]:
        """For JSON."""
        return vars(self)


#: What a dead letter was: a message that was given up, or replies that could not be sent out.
LetterKind = Literal["message", "delivery"]


@dataclass(frozen=True)
class Letter:
    """A dead letter: a message that was given up, or the replies to one that could not be sent out.

    Attributes:
        number: of the message's ticket; 0: not known.
        submitted: of a delivery, when its turn ended; in milliseconds since the epoch.
        died: milliseconds since the epoch.
        reason: why.
        text: the message, or the delivery with its replies as JSON.
        stored: of a delivery, the letter as it is stored.
    """

    conversation_id: str
    message_id: str
    number: int
    submitted: int
    died: int
    reason: str
    text: str = field_of(repr=False)
    kind: LetterKind = "message"
    stored: str = field_of(default="", repr=False)

    def as_dict(self, *, texts: bool = True) -> dict[str, Any]:
        """For JSON; `texts`: with the message, which is personal data."""
        hidden = ("stored",) if texts else ("stored", "text")
        return {key: value for key, value in vars(self).items() if key not in hidden}


@dataclass(frozen=True)
class Letters:
    """Dead letters, those that died last first.

    Attributes:
        more: whether there are more than these.
    """

    rows: Sequence[Letter] = ()
    more: bool = False


@dataclass(frozen=True)
class Deleted:
    """What was deleted of a conversation.

    Attributes:
        messages: that were not finished; senders that wait hear that they are withdrawn.
        broken: whether the turn of a message ran, and was broken.
    """

    messages: int = 0
    deliveries: int = 0
    letters: int = 0
    broken: bool = False

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return bool(self.messages or self.deliveries or self.letters)
