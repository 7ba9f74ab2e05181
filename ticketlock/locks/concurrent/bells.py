"""Bells: the messages by which one process tells another what its scripts have done.

A bell is signed with the secret of the process that it is for, which stands in that process's
tickets and nowhere else: who may only publish, or listen, cannot forge one. What is not signed,
a bell of version 0.1.0 for one, is a reason to look and nothing more. docs/protocol.md has who
can do what with which rights.
"""

from __future__ import annotations

import hashlib
import re
from hmac import compare_digest
from typing import NamedTuple

from ...checks import MAX_FENCE

_BELL = re.compile(
    rb"(?:(grant) (\d{1,18}) (\d{1,16}) (\d{1,16}) (\d{1,16})(?: (interrupt|rollback))?"
    rb"|(broken|finished) (\d{1,18}) (\d{1,16})"
    rb"|(stop) (\d{1,18}) (\d{1,16}) (interrupt|rollback)"
    rb"|(answered) (\d{1,18})"
    rb"|(said) (\d{1,18}) (\d{1,16}) (\d{1,9}) (.+?))(?: ([0-9a-f]{40}))?",
    re.DOTALL,
)


class Bell(NamedTuple):
    """What a bell says of one request of this process.

    Attributes:
        kind: `grant`, `broken`, `finished`, `stop`, `answered` or `said`.
        request: which of this process's requests it is about.
        number: the ticket number, of a grant; the index of the first reply that was said.
        fence: of the turn; 0: the ticket was waiting.
        until: when the lease of a grant ends, in the server's milliseconds.
        mode: how the turn is asked to stop, if it is.
        signed: whether it comes from a script; see `read`.
        text: replies that were said and are not stored yet, as a JSON list.
    """

    kind: str
    request: int
    number: int = 0
    fence: int = 0
    until: int = 0
    mode: str | None = None
    signed: bool = False
    text: bytes = b""


def read(text: bytes, secret: bytes | None) -> Bell | None:
    """The bell that a text is, None if it is none.

    Args:
        secret: of this process; a bell with its signature is `signed`. None: the text is an
            answer to a command of our own, and needs no signature.
    """
    match = _BELL.fullmatch(text)
    if match is None:
        return None
    mac = match[21]
    signed = secret is None
    if secret is not None and mac is not None:
        body = secret + text[: match.start(21) - 1] + secret
        signed = compare_digest(hashlib.sha1(body).hexdigest().encode(), mac)
    if match[1]:
        number, fence, until = int(match[3]), int(match[4]), int(match[5])
        mode = match[6].decode() if match[6] else None
        bell = Bell("grant", int(match[2]), number, fence, until, mode, signed)
    elif match[7]:
        bell = Bell(match[7].decode(), int(match[8]), fence=int(match[9]), signed=signed)
    elif match[10]:
        fence, mode = int(match[12]), match[13].decode()
        bell = Bell("stop", int(match[11]), fence=fence, mode=mode, signed=signed)
    elif match[14]:
        return Bell("answered", int(match[15]), signed=signed)
    else:
        request, fence, first = int(match[17]), int(match[18]), int(match[19])
        bell = Bell("said", request, first, fence, signed=signed, text=match[20])
    return bell if bell.fence <= MAX_FENCE else None
