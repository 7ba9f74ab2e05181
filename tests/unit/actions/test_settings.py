"""The section `action_endpoint`: what it may say, and what its errors never show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers.certificates import Certificates

from ticketlock import ConfigurationError, Conversations
from ticketlock.actions.server import ActionServer
from ticketlock.actions.settings import COMPRESS, ActionSettings

URL = "http://localhost:5055/webhook"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({}, "url: is missing"),
        ({"url": "localhost:5055"}, "url: is not an http:// or https:// URL"),
        ({"url": URL, "type": "grpc"}, "type: 'grpc' is not known"),
        ({"url": URL, "tokn": "hidden"}, "tokn: is not a setting here; did you mean token?"),
        ({"url": URL, "timeout": 0}, "timeout: 0 is not a number of at least 0.1"),
        ({"url": URL, "headers": ["hidden"]}, "headers: is not a mapping"),
        ({"url": URL, "headers": {"a b": "hidden"}}, "headers: 'a b' is not the name of a header"),
        ({"url": URL, "headers": {"x": "hidden\n"}}, "the value of x has characters"),
        ({"url": URL, "headers": {"Host": "hidden"}}, "Host is set by each call"),
        ({"url": URL, "basic_auth": {"username": "hidden"}}, "exactly the keys username and"),
        ({"url": URL, "keyfile": "k"}, "keyfile: certfile is missing"),
        ({"url": URL, "cafile": "/none.pem"}, "cafile: /none.pem: No such file"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Conversations(action_endpoint=keys)
    assert str(caught.value).startswith("action_endpoint: ")
    assert says in str(caught.value)
    assert "hidden" not in str(caught.value)


def test_certificates_that_do_not_belong_together(tmp_path: Path) -> None:
    """And a key under a password, which would be asked for on the terminal."""
    made = Certificates(tmp_path)
    for certificate, key in (("client.pem", "server.key"), ("client.pem", "locked.key")):
        pair = {"certfile": made[certificate], "keyfile": made[key]}
        with pytest.raises(ConfigurationError, match=r"certfile: .* is not a certificate with its"):
            ActionServer(ActionSettings(url=URL, **pair))


def test_secrets_are_shown_nowhere() -> None:
    settings = ActionSettings.from_section(
        {
            "url": "http://u:hidden1@h/webhook", "token": "hidden2", "params": {"a": "hidden3"},
            "headers": {"x": "hidden4"}, "basic_auth": {"username": "u", "password": "hidden5"},
        }
    )  # fmt: skip
    server = ActionServer(settings)
    assert "hidden" not in repr(settings) + repr(server) + settings.address + server.address


def test_the_query_has_token_and_parameters() -> None:
    """After what the URL has itself, and encoded."""
    settings = ActionSettings(url=URL + "?a=1", token="t&x", params={"b": "ä"})
    assert settings.target().target == "/webhook?a=1&b=%C3%A4&token=t%26x"
    named = ActionSettings(url=URL, token="t", token_name="key")
    assert named.target().target == "/webhook?key=t"


@pytest.mark.parametrize(
    ("text", "means"), [("true", True), ("1", True), ("False", False), ("", False)]
)
def test_compression_is_by_the_documented_variable(
    monkeypatch: pytest.MonkeyPatch, text: str, means: bool
) -> None:
    settings = ActionSettings(url=URL)
    assert not settings.compress
    monkeypatch.setenv(COMPRESS, text)
    assert settings.compress is means
