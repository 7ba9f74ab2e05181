"""Signatures of webhooks by the scheme Standard Webhooks: `sign_webhook`, `verify_webhook`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping, Sequence

from ..errors import ConfigurationError, InvalidSignature

_PREFIX = "whsec_"
#: Bytes that a secret may have.
LEAST, MOST = 24, 64
#: Signatures of one webhook that are looked at: its header comes from anyone.
_SIGNATURES = 10


def sign_webhook(
    body: bytes, webhook_id: str, *secrets: str, timestamp: int | None = None
) -> dict[str, str]:
    """The headers that prove to a receiver who has sent a body, and when.

    Args:
        webhook_id: the same one whenever the same webhook is sent again; without a dot.
        secrets: `whsec_` and base64 of 24 to 64 bytes. Each of them signs, so that a receiver may
            have the old or the new one while a secret is being replaced.
        timestamp: seconds since 1970; default: now.

    Raises ConfigurationError for an invalid secret.
    """
    at = str(int(time.time()) if timestamp is None else timestamp)
    made = (base64.b64encode(_digest(secret, webhook_id, at, body)).decode() for secret in secrets)
    return {
        "webhook-id": webhook_id,
        "webhook-timestamp": at,
        "webhook-signature": " ".join(f"v1,{signature}" for signature in made),
    }


def verify_webhook(
    body: bytes, headers: Mapping[str, str], *secrets: str, tolerance: float = 300
) -> None:
    """Raise InvalidSignature unless one of the secrets has signed this body lately.

    Args:
        body: as it was received, before anything has parsed it.
        headers: of the request; their names in any case.
        secrets: those that are valid now: two of them while one is being replaced.
        tolerance: seconds by which the timestamp may differ from now.

    Raises ConfigurationError for an invalid secret.
    """
    if not secrets:
        raise ConfigurationError("verify_webhook needs at least one secret")
    given = {name.lower(): value for name, value in headers.items()}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        if not given.get(name):
            raise InvalidSignature(f"the webhook has no header {name}")
    webhook_id, at = given["webhook-id"], given["webhook-timestamp"]
    if not (at.isascii() and at.isdigit() and len(at) <= 12):
        raise InvalidSignature("webhook-timestamp is not a number of seconds since 1970")
    off = time.time() - int(at)
    if abs(off) > tolerance:
        when = "old" if off > 0 else "ahead of this clock"
        raise InvalidSignature(
            f"the webhook is {abs(off):.0f} s {when}; {tolerance:g} s are allowed: "
            "compare the clocks of sender and receiver"
        )
    wanted = [_digest(secret, webhook_id, at, body) for secret in secrets]
    if not _any_equal(wanted, _signatures(given["webhook-signature"])):
        raise InvalidSignature(
            "no signature of the webhook fits: the secret is another one, or the body was changed"
        )


def secrets_problem(secrets: Sequence[str]) -> str | None:
    """The problem of the first invalid secret, without showing it; None if there is none."""
    for number, secret in enumerate(secrets, 1):
        try:
            decode_secret(secret)
        except ConfigurationError as error:
            return f"number {number} {error}"
    return None


def decode_secret(secret: str) -> bytes:
    """The bytes of a secret. Raises ConfigurationError, which does not show it."""
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not LEAST <= len(key) <= MOST:
        raise ConfigurationError(
            f"is not a webhook secret: {_PREFIX} and base64 of {LEAST} to {MOST} bytes; "
            f'make one with: echo "{_PREFIX}$(openssl rand -base64 32)"'
        )
    return key


def _digest(secret: str, webhook_id: str, at: str, body: bytes) -> bytes:
    # With a surrogate in a header that anyone may send, no signature fits; it is no other error.
    signed = f"{webhook_id}.{at}.".encode(errors="surrogateescape") + body
    return hmac.new(decode_secret(secret), signed, hashlib.sha256).digest()


def _signatures(header: str) -> list[bytes]:
    found = []
    for each in header.split()[:_SIGNATURES]:
        version, _, text = each.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(text, validate=True))
            except (binascii.Error, ValueError):
                continue  # one that fits nothing
    return found


def _any_equal(wanted: Sequence[bytes], given: Sequence[bytes]) -> bool:
    """Compared in constant time, all of them."""
    equal = [hmac.compare_digest(one, other) for one in wanted for other in given]
    return any(equal)
