"""The files of docs/deploy as a stranger sees them: every route, tried without a token."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from servers.nginx import DEPLOY, Nginx, nginx
from servers.replicas import Replica

TOKENS = {
    "TICKETLOCK_AUTH_TOKEN": "reads-4f1d0c",
    "TICKETLOCK_CHANNEL_TOKEN": "sends-83b7aa",
    "TICKETLOCK_ADMIN_TOKEN": "breaks-9e20d1",
}
WEBHOOK = "/webhooks/rest/webhook"
#: What a stranger may read: that a channel lives, on the one port; a page without data and
#: whether the replicas are ready, on the other.
OPEN_CHANNELS = {("GET", "/webhooks/rest/")}
OPEN_OPERATORS = {("GET", "/"), ("GET", "/ready"), ("GET", "/version")}
#: Paths that nginx and a replica may take for two different ones.
CROOKED = [
    "/webhooks/../conversations/anna/tracker", "/webhooks/%2e%2e/conversations/anna/tracker",
    "/webhooks/..%2fconversations/anna/tracker", "//conversations/anna/tracker",
    "/conversations/../webhooks/tracker", "/conversations/anna/../../webhooks/tracker",
    "/conversations/anna%2f..%2f..%2fwebhooks/tracker", "/WEBHOOKS/../live", "/webhooks/../live",
    "/./conversations/anna/tracker", "/webhooks/rest/webhook/../../../status",
]  # fmt: skip


@pytest.fixture(scope="module", params=["endpoints.yml", "endpoints.kafka.yml"])
def shipped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nginx]:
    """nginx.conf as it is, before a replica with the `server` section of a shipped file."""
    folder = tmp_path_factory.mktemp("shipped")
    text = (DEPLOY / request.param).read_text()
    (folder / "endpoints.yml").write_text(text[re.search(r"(?m)^server:", text).start() :])  # type: ignore[union-attr]  # it is there
    with pytest.MonkeyPatch.context() as patch:
        for name, value in TOKENS.items():
            patch.setenv(name, value)
        replica = Replica(folder / "endpoints.yml", "--host", "0.0.0.0")
        try:
            replica.wait_ready()
            said = httpx.post(
                replica.url + WEBHOOK, json={"message": "my secret", "sender": "anna"},
                headers=bearer("TICKETLOCK_CHANNEL_TOKEN"),
            )  # fmt: skip
            assert said.status_code == 200
            with nginx([replica.port]) as front:
                yield front
        finally:
            replica.kill()


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[name]}"}


def routes(base: str) -> list[tuple[str, str]]:
    """Every method and path of the server, and some that it lacks."""
    from ticketlock import Conversations
    from ticketlock.server import create_app

    found = []
    for route in create_app(Conversations()).routes:
        path = re.sub(r"\{[^}]*\}", "anna", route.path)  # type: ignore[attr-defined]  # a Route
        found += [(method, path) for method in sorted(route.methods - {"HEAD"})]  # type: ignore[attr-defined]
    return [*found, ("GET", "/conversations/"), ("GET", "/nothing"), ("PUT", WEBHOOK)]


def ask(base: str, method: str, path: str, **more: object) -> httpx.Response:
    body = [{"event": "user", "text": "forged"}] if method in ("POST", "PUT") else None
    return httpx.request(method, base + path, json=body, timeout=30, **more)  # type: ignore[arg-type]


def test_the_public_port_has_webhooks_only(shipped: Nginx) -> None:
    """Without a token no message passes; nothing else passes with any token."""
    for headers in ({}, bearer("TICKETLOCK_AUTH_TOKEN"), bearer("TICKETLOCK_ADMIN_TOKEN")):
        for method, path in routes(shipped.channels):
            status = ask(shipped.channels, method, path, headers=headers).status_code
            if (method, path) in OPEN_CHANNELS:
                assert status == 200, path
            elif path == WEBHOOK and method == "POST":
                assert status == (400 if "reads" in str(headers) else 401), path
            elif path.startswith("/webhooks/outcomes/") and method in ("GET", "DELETE"):
                assert status == 401, path  # it has a signature of its own
            else:
                assert status in (404, 405), (method, path, status)


def test_the_other_port_asks_for_a_token(shipped: Nginx) -> None:
    """What shows or changes a conversation wants one; messages do not come in there."""
    for method, path in routes(shipped.operators):
        answer = ask(shipped.operators, method, path)
        if (method, path) in OPEN_OPERATORS:
            assert answer.status_code == 200, path
        else:
            assert answer.status_code in (401, 404, 405), (method, path, answer.status_code)
        assert "anna" not in answer.text
        assert "my secret" not in answer.text


@pytest.mark.parametrize("path", CROOKED)
def test_no_path_leads_round(shipped: Nginx, path: str) -> None:
    """nginx and the replica read a path alike, or it is refused by one of them."""
    place = urlsplit(shipped.channels)
    with socket.create_connection((str(place.hostname), int(place.port or 0))) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = raw.makefile("rb").read()
    assert answer.split(b" ")[1] in (b"400", b"404"), answer
    assert b"my secret" not in answer


def test_each_token_opens_its_own(shipped: Nginx) -> None:
    """The API is there for who has the token."""
    tracker = "/conversations/anna/tracker"
    read = ask(shipped.operators, "GET", tracker, headers=bearer("TICKETLOCK_AUTH_TOKEN"))
    assert "my secret" in read.text
    domain = ask(shipped.operators, "GET", "/domain", headers=bearer("TICKETLOCK_AUTH_TOKEN"))
    assert domain.json()["reason"] == "Conflict"  # these files name none
    sends = bearer("TICKETLOCK_CHANNEL_TOKEN")
    assert ask(shipped.operators, "GET", tracker, headers=sends).status_code == 401
    sent = httpx.post(shipped.channels + WEBHOOK, json={"message": "hi"}, headers=sends)
    assert sent.json() == [{"recipient_id": "default", "text": "hi"}]


@pytest.mark.parametrize("name", sorted(TOKENS))
@pytest.mark.parametrize("value", [None, "", "change-me", "x"])
def test_a_deployment_without_its_tokens_does_not_start(
    name: str, value: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, empty, a placeholder, a single character: each is refused, and the error names it."""
    from ticketlock.endpoints import read_endpoints
    from ticketlock.errors import ConfigurationError
    from ticketlock.server import Settings

    text = (DEPLOY / "endpoints.yml").read_text()
    (tmp_path / "e.yml").write_text(text[text.index("server:") :])
    for other, good in TOKENS.items():
        monkeypatch.setenv(other, good)
    if value is None:
        monkeypatch.delenv(name)
    else:
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_section(read_endpoints(tmp_path / "e.yml").section("server"))
    key = name.removeprefix("TICKETLOCK_").lower()
    assert (name if value is None else key) in str(caught.value)
