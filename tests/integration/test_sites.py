"""Web pages and a server on the same machine: what a browser may be made to send to it."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.bot_server import BOT, Replica, replicas

WEBHOOK = "/webhooks/rest/webhook"
EVENTS = "/conversations/anna/tracker/events"


def start(folder: Path, server: str, *words: str) -> Iterator[Replica]:
    (folder / "slow_bot.py").write_text(BOT)
    (folder / "endpoints.yml").write_text(f"server:\n  drain_timeout: 0\n{server}")
    with replicas(folder, list(words)) as [one]:
        yield one


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """An open server as it starts by default."""
    yield from start(tmp_path_factory.mktemp("local"), "")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One that others than this machine reach."""
    yield from start(tmp_path_factory.mktemp("wide"), "", "--host", "0.0.0.0")


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One with a name, and a page of another site that may use it."""
    keys = "  allowed_hosts: bot.example\n  cors_origins: https://shop.example\n"
    yield from start(tmp_path_factory.mktemp("named"), keys)


def ask(
    server: Replica, method: str, path: str, body: str | None = None, **headers: str
) -> tuple[int, dict[str, str], str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, named)
        answer = connection.getresponse()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read().decode()
    finally:
        connection.close()


MESSAGE = '{"message": "forged", "sender": "anna"}'


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://localhost:1"},
        {"Origin": "https://evil.example", "Sec_Fetch_Site": "cross-site"},
        {"Origin": "http://localhost:3000", "Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "cross-site"},
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", WEBHOOK), ("POST", EVENTS), ("PUT", EVENTS), ("DELETE", "/conversations/anna/lock"),
        ("POST", "/live/break"), ("POST", "/conversations/anna/messages"),
    ],
)  # fmt: skip
def test_pages_of_other_sites_do_not_write(
    local: Replica, wide: Replica, method: str, path: str, headers: dict[str, str]
) -> None:
    """Not with text/plain, which a browser sends without asking; wherever the server listens."""
    for server in (local, wide):
        code, _, said = ask(server, method, path, MESSAGE, Content_Type="text/plain", **headers)
        assert code == 403
        assert '"reason":"CrossSite"' in said
        assert "cors_origins" in said
        assert "forged" not in ask(server, "GET", "/conversations/anna/tracker")[2]


def test_own_pages_and_programs_write(local: Replica) -> None:
    """curl, the operator's page, a page typed in by hand."""
    own = f"http://127.0.0.1:{local.port}"
    for headers in (
        {}, {"Origin": own}, {"Origin": own, "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
    ):  # fmt: skip
        assert ask(local, "POST", WEBHOOK, '{"message": "hi"}', **headers)[0] == 200
    # A proxy that leaves out the port.
    proxied = {"Host": "127.0.0.1", "Origin": "http://127.0.0.1:8081"}
    assert ask(local, "POST", WEBHOOK, '{"message": "hi"}', **proxied)[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "x@localhost.evil", "a.b.", "[::1", "[::x]",
     "127.0.0.1.evil.example", "2130706433"]
)  # fmt: skip
def test_a_foreign_host_is_refused(local: Replica, host: str) -> None:
    """A name that was made to point here is not ours; nothing is shown under it."""
    for method, path in (("GET", "/conversations/anna/tracker"), ("POST", WEBHOOK), ("GET", "/")):
        code, _, said = ask(local, method, path, "{}" if method == "POST" else None, Host=host)
        assert code == 421
        assert '"reason":"ForeignHost"' in said


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5005", "127.0.0.1", "[::1]:80", "localhost."]
)
def test_its_own_names(local: Replica, host: str) -> None:
    assert ask(local, "GET", "/health", Host=host)[0] == 200


def test_names_that_are_allowed(named: Replica, wide: Replica) -> None:
    """With `allowed_hosts`; without it, a server that others reach has any name."""
    assert ask(named, "GET", "/health", Host="bot.example")[0] == 200
    assert ask(named, "GET", "/health", Host="localhost:80")[0] == 200
    assert ask(named, "GET", "/health", Host="evil.example")[0] == 421
    assert ask(wide, "GET", "/health", Host="any.example")[0] == 200


def test_a_page_that_may(named: Replica) -> None:
    """The browser is answered what it asks before it sends, and after; other pages are not."""
    page = {"Origin": "https://shop.example", "Sec_Fetch_Site": "cross-site"}
    asks = {"Access_Control_Request_Method": "POST"}
    asks |= {"Access_Control_Request_Headers": "authorization, content-type, idempotency-key"}
    code, headers, _ = ask(named, "OPTIONS", WEBHOOK, **page, **asks)
    assert (code, headers["access-control-allow-origin"]) == (200, "https://shop.example")
    code, headers, _ = ask(named, "POST", WEBHOOK, '{"message": "hi"}', **page)
    assert (code, headers["access-control-allow-origin"]) == (200, "https://shop.example")
    assert "retry-after" in headers["access-control-expose-headers"].lower()
    other = {**page, "Origin": "https://evil.example"}
    code, headers, _ = ask(named, "OPTIONS", WEBHOOK, **other, **asks)
    assert (code, "access-control-allow-origin" in headers) == (400, False)
    assert ask(named, "POST", WEBHOOK, '{"message": "hi"}', **other)[0] == 403


def test_a_server_that_is_open_to_others_says_so(local: Replica, wide: Replica) -> None:
    """A warning at the start, which names the key."""
    assert "can read and change all conversations: set auth_token" in wide.log()
    assert "auth_token" not in local.log()
