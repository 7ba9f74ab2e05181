"""Rejects weak tokens and secrets: those from examples, and those easy to guess."""

from __future__ import annotations

import re

#: Least characters of a token or secret, and of different ones.
LEAST, LEAST_DIFFERENT = 8, 3

#: Values of examples and templates, with letters and digits only.
_PLACEHOLDERS = re.compile(
    r"(please)?(change|replace|insert|fill|set|put|edit)(me|it|this|in|your|here).*"
    r"|(your|my|the|this|some|thisis|thisisa|thisismy|any|an?)*"
    r"(super|very|top|auth|api|access|admin|channel|bot|server|jwt|shared|test|random|secret)*"
    r"(token|secret|password|passwd|passphrase|key|string|value)(s|here|goeshere|123|1|2)*"
    r"|(secret|supersecret|topsecret|changed?|placeholder|example|default|todo|tbd|none|null"
    r"|undefined|admin|administrator|test|testing|letmein|qwerty|qwertyuiop|rasa|ticketlock"
    r"|0?123456789?0?|12345678|abcdefgh|abc12345|x|foobar|foobarbaz)+"
)


def weakness(secret: str) -> str | None:
    """The problem of a token or secret, without showing it; None if it has none."""
    if not secret:
        return "is empty: give it a value, or leave the key out"
    bare = re.sub(r"[^a-z0-9]", "", secret.lower())
    if _PLACEHOLDERS.fullmatch(bare) or re.fullmatch(r"\$?[<{\[(].*[>}\])]", secret.strip()):
        return f"is a placeholder that is easy to guess; {_WAY}"
    if len(secret) < LEAST or len(set(secret)) < LEAST_DIFFERENT:
        return f"is shorter than {LEAST} characters, or repeats almost only one; {_WAY}"
    return None


_WAY = "make one with: openssl rand -hex 32"
