"""Who is believed: signatures that the vendors' documents print, and every way to be another."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vendors import NAMES, ONE, SECRET, channel, encoded, server, signed

#: https://docs.slack.dev/authentication/verifying-requests-from-slack
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmib"
    b"IGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
SLACK_TIME = 1531420618
SLACK_SIGNATURE = "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503"


def slack_says(
    body: bytes = SLACK_BODY, stamp: str = str(SLACK_TIME), signature: str = SLACK_SIGNATURE,
    now: float = SLACK_TIME,
) -> bool:  # fmt: skip
    headers = {"x-slack-request-timestamp": stamp, "x-slack-signature": signature}
    return channel("slack").verify(body, headers, now)


def test_the_signature_in_slacks_document() -> None:
    """It is right within 300 s of its time, and for nothing but its body and time."""
    assert SECRET == "8f742231b10e8888abcd99yyyzzz85a5"  # that document's
    assert slack_says()
    assert slack_says(now=SLACK_TIME + 300)
    assert slack_says(now=SLACK_TIME - 300)
    assert not slack_says(now=SLACK_TIME + 301)
    assert not slack_says(now=SLACK_TIME - 301)
    assert not slack_says(SLACK_BODY + b"&")
    assert not slack_says(stamp=str(SLACK_TIME + 1))
    for stamp in ("", "x", "-1", "²", "1" * 5000, f" {SLACK_TIME}", f"{SLACK_TIME}.0", "nan"):
        assert not slack_says(stamp=stamp), stamp


def test_the_signature_in_githubs_document() -> None:
    """Meta prints none with its secret; GitHub does, with the same header and algorithm.

    https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
    """
    for name in ("whatsapp", "messenger"):
        meta = channel(name, app_secret="It's a Secret to Everybody")
        made = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
        headers = {"x-hub-signature-256": f"sha256={made}"}
        assert meta.verify(b"Hello, World!", headers, 0)
        assert not meta.verify(b"Hello, World", headers, 0)
        assert not meta.verify(b"Hello, World!", {"x-hub-signature-256": made}, 0)
        assert not meta.verify(b"Hello, World!", {"x-hub-signature": f"sha1={made}"}, 0)


@pytest.mark.parametrize(
    ("url", "body", "signature"),
    [
        # https://www.twilio.com/docs/usage/security, *Validating requests*
        ("https://example.com/myapp.php?foo=1&bar=2",
         (b"Digits=1234&To=%2B18005551212&From=%2B14158675310&Caller=%2B14158675310"
         b"&CallSid=CA1234567890ABCDE"), "L/OH5YylLD5NRKLltdqwSvS0BnU="),
        # The example in the tests of Twilio's own libraries (twilio-python, twilio-php, twilio-csharp)
        ("https://mycompany.com/myapp.php?foo=1&bar=2",
         (b"To=%2B18005551212&Digits=1234&From=%2B14158675309&Caller=%2B14158675309"
         b"&CallSid=CA1234567890ABCDE"), "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
        # The same libraries' example with a value that is sent twice
        ("https://mycompany.com/myapp.php?foo=1&bar=2",
         b"Sid=CA123&SidAccount=AC123&Digits=5678&Digits=1234&Digits=1234",
         "IK+Dwps556ElfBT0I3Rgjkr1wJU="),
    ],
)  # fmt: skip
def test_the_signatures_in_twilios_documents(url: str, body: bytes, signature: str) -> None:
    """They are right for their URL and form."""
    headers = {"x-twilio-signature": signature}
    twilio = channel("twilio", auth_token="12345", webhook_url=url)
    assert twilio.verify(body, headers, 0)
    assert not twilio.verify(body + b"&A=1", headers, 0)
    assert not twilio.verify(body.replace(b"123", b"124", 1), headers, 0)
    other = channel("twilio", auth_token="12345", webhook_url=url.replace("https", "http"))
    assert not other.verify(body, headers, 0)


def tampered(name: str, body: bytes) -> list[tuple[bytes, dict[str, str]]]:
    """Webhooks that are not the vendor's, by what is wrong with them."""
    good = signed(name, body)
    header = list(good)[-1]
    value = good[header]
    wrong = [
        {},
        {header: ""},
        {**good, header: value[:-1]},
        {**good, header: value + "0"},
        {**good, header: value.swapcase()},
        {**good, header: "é" * 40},
        {**good, header: value.replace(value[-4], "-")},
    ]
    bodies = [] if name == "telegram" else [b"", body + b" ", b"\xff\xfe\0", "ä".encode() * 9]
    return [*((body, headers) for headers in wrong), *((other, good) for other in bodies)]


@pytest.mark.parametrize("name", NAMES)
async def test_who_is_another_is_refused(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """With 401, one text for all of them, and nothing submitted; a WARNING once a minute."""
    body = encoded(name, ONE[name])
    async with server() as bot:
        texts = set()
        for other, headers in tampered(name, body):
            sent = {key: value.encode("utf-8") for key, value in headers.items()}
            answer = await bot.post(name, other, sent)  # type: ignore[arg-type]  # bytes
            assert answer.status_code == 401, (other, headers)
            texts.add(answer.json()["message"])
        assert len(texts) == 1
        assert SECRET not in texts.pop()
        assert bot.inbox.said == []
        warned = [
            text for text in caplog.messages if text.startswith(f"{name}: webhooks refused: 1;")
        ]
        assert len(warned) == 1
        assert (await bot.post(name, body, signed(name, body))).status_code == 200
        assert len(bot.inbox.said) == 1


async def test_another_channels_signature_is_refused() -> None:
    """Though all have the same secret here."""
    async with server() as bot:
        for name in NAMES:
            body = encoded(name, ONE[name])
            for other in NAMES:
                alike = {name, other} == {"whatsapp", "messenger"}  # of one app of Meta
                if other not in (name, "telegram") and not alike:
                    answer = await bot.post(name, body, signed(other, body))
                    assert answer.status_code == 401, (name, other)
        assert bot.inbox.said == []


async def test_a_replay_is_too_old() -> None:
    """Slack signs the time: what was recorded is of no use 301 s later."""
    body = encoded("slack", ONE["slack"])
    async with server() as bot:
        for age in (-310, 310):
            headers = signed("slack", body, time.time() + age)
            assert (await bot.post("slack", body, headers)).status_code == 401
        assert bot.inbox.said == []


@given(st.sampled_from(NAMES), st.binary(max_size=200), st.dictionaries(
    st.sampled_from(["x-slack-request-timestamp", "x-slack-signature", "x-hub-signature-256",
                     "x-telegram-bot-api-secret-token", "x-twilio-signature"]),
    st.text(max_size=80),
))  # fmt: skip
def test_no_body_or_header_is_an_error(name: str, body: bytes, headers: dict[str, str]) -> None:
    """Whatever they are, they are wrong, and no exception."""
    assert channel(name).verify(body, headers, 1e9) is False


@pytest.mark.parametrize("name", ["whatsapp", "messenger"])
async def test_the_challenge(name: str) -> None:
    """Meta's GET gets its challenge with the right token alone; other channels have no GET."""
    right = {
        "hub.mode": "subscribe",
        "hub.verify_token": "vibecoding",
        "hub.challenge": "1158201444",
    }
    async with server() as bot:
        answer = await bot.http.get(f"/webhooks/{name}/webhook", params=right)
        assert (answer.status_code, answer.text) == (200, "1158201444")
        assert answer.headers["content-type"].startswith("text/plain")
        for wrong in (
            {}, {**right, "hub.verify_token": "vibecodinG"}, {**right, "hub.mode": "x"},
            {**right, "hub.verify_token": "é"}, {"hub.mode": "subscribe", "hub.challenge": "1"},
        ):  # fmt: skip
            answer = await bot.http.get(f"/webhooks/{name}/webhook", params=wrong)
            assert answer.status_code == 403
            assert "vibecoding" not in answer.text
        assert (await bot.http.get("/webhooks/slack/webhook")).status_code == 405
