"""Signatures of webhooks: against the package of the scheme's authors, and what is refused."""

from __future__ import annotations

import base64
import time
from datetime import datetime, timezone

import pytest
import standardwebhooks

from ticketlock import ConfigurationError, InvalidSignature, sign_webhook, verify_webhook

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(bytes(range(32))).decode()
BODY = '{"recipient_id":"anna","text":"schön"}'.encode()


def test_the_vector_that_the_scheme_publishes() -> None:
    headers = sign_webhook(
        b'{"test": 2432232314}', "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", timestamp=1614265330,
    )  # fmt: skip
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"
    assert headers["webhook-id"] == "msg_p5jXN8AQM9LWM0D4loKWxJek"


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_the_peer_accepts_ours_with_either_secret(secret: str) -> None:
    headers = sign_webhook(BODY, "a-1-2", OLD, NEW)
    assert headers["webhook-signature"].count("v1,") == 2
    assert standardwebhooks.Webhook(secret).verify(BODY, headers)["recipient_id"] == "anna"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(secret).verify(BODY + b" ", headers)


def test_ours_accepts_the_peers() -> None:
    now = datetime.now(timezone.utc)
    signature = standardwebhooks.Webhook(NEW).sign("a-1-2", now, BODY.decode())
    headers = {
        "Webhook-Id": "a-1-2", "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": f"v1a,AAAA v1,!! v1,AAAA {signature}",
    }  # fmt: skip
    verify_webhook(BODY, headers, OLD, NEW)
    with pytest.raises(InvalidSignature, match="no signature"):
        verify_webhook(BODY, headers, OLD)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"webhook-id": "a-1-3"}, "no signature"),
        ({"webhook-id": "\udc80"}, "no signature"),
        ({"webhook-id": ""}, "no header webhook-id"),
        ({"webhook-signature": "v1," + "A" * 43 + "="}, "no signature"),
        ({"webhook-signature": "v1"}, "no signature"),
        ({"webhook-signature": "\xe9,v1 v1,\xe9"}, "no signature"),
        ({"webhook-timestamp": "soon"}, "not a number"),
        ({"webhook-timestamp": "9" * 5000}, "not a number"),
    ],
)
def test_a_changed_header_is_refused(change: dict[str, str], why: str) -> None:
    headers = {**sign_webhook(BODY, "a-1-2", NEW), **change}
    with pytest.raises(InvalidSignature, match=why):
        verify_webhook(BODY, headers, NEW)


@pytest.mark.parametrize(("off", "why"), [(-301, "old"), (310, "ahead")])
def test_one_from_another_time_is_refused(off: int, why: str) -> None:
    headers = sign_webhook(BODY, "a", NEW, timestamp=int(time.time()) + off)
    with pytest.raises(InvalidSignature, match=why):
        verify_webhook(BODY, headers, NEW)
    verify_webhook(BODY, headers, NEW, tolerance=400)


@pytest.mark.parametrize("secret", ["", "whsec_", "hunter2hunter2", "whsec_c2hvcnQ=", "whsec_ä"])
def test_an_invalid_secret_is_not_shown(secret: str) -> None:
    with pytest.raises(ConfigurationError, match="not a webhook secret") as caught:
        sign_webhook(BODY, "a", secret)
    assert secret in ("", "whsec_") or secret not in str(caught.value)
    with pytest.raises(ConfigurationError):
        verify_webhook(BODY, sign_webhook(BODY, "a", NEW), secret)
    with pytest.raises(ConfigurationError, match="at least one"):
        verify_webhook(BODY, {})
