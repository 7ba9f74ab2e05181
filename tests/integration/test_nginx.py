"""nginx of docs/deploy in front of upstreams that misbehave: what is passed on, and what is not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import httpx
import pytest
from servers.nginx import nginx
from servers.processes import free_port

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
WEBHOOK = "/webhooks/rest/webhook"


class Upstream:
    """Reads requests, and answers them or hangs up. `heard` has their first lines."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", free_port()))
        self.port = self._listener.getsockname()[1]
        self.heard: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            with connection, connection.makefile("rb") as lines:
                self.heard.append(lines.readline().decode().strip())
                length = 0
                while line := lines.readline().strip().lower():
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                lines.read(length)
                connection.sendall(self._answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def hangs_up() -> Iterator[Upstream]:
    """A replica that is killed when it has the request."""
    upstream = Upstream(b"")
    yield upstream
    upstream.close()


@pytest.fixture
def answers() -> Iterator[Upstream]:
    upstream = Upstream(ANSWER)
    yield upstream
    upstream.close()


def test_a_request_that_was_sent_is_not_sent_to_another(
    hangs_up: Upstream, answers: Upstream
) -> None:
    """The first replica may have handled it: whoever sent it knows whether it has an id."""
    with nginx([hangs_up.port, answers.port]) as front:
        statuses = [httpx.post(front.channels + WEBHOOK, json={}).status_code for _ in range(8)]
    assert statuses.count(502) == len(hangs_up.heard) > 0
    assert statuses.count(200) == len(answers.heard) == 8 - len(hangs_up.heard)


def test_a_replica_that_is_away_costs_no_request(answers: Upstream) -> None:
    """Nothing has been sent to it: the next one gets it."""
    with nginx([free_port(), answers.port, free_port()]) as front:
        statuses = [httpx.post(front.channels + WEBHOOK, json={}).status_code for _ in range(8)]
    assert statuses == [200] * 8
    assert answers.heard == [f"POST {WEBHOOK} HTTP/1.1"] * 8


def test_ids_arrive_as_they_were_sent(answers: Upstream) -> None:
    """Encoded slashes, dots and doubled slashes are part of conversation ids."""
    path = "/conversations/a%2Fb//..%2F%7B%7D%20c/tracker"
    with nginx([answers.port]) as front:
        assert httpx.get(front.operators + path).status_code == 200
    assert answers.heard == [f"GET {path} HTTP/1.1"]


def test_operators_have_a_port_of_their_own(answers: Upstream) -> None:
    with nginx([answers.port]) as front:

        def statuses(url: str) -> list[int]:
            paths = ("/", "/live", "/live/break", WEBHOOK, "/conversations/a/tracker", "/status")
            return [httpx.get(url + path).status_code for path in paths]

        assert statuses(front.operators) == [200, 200, 200, 404, 200, 200]
        assert statuses(front.channels) == [404, 404, 404, 200, 404, 404]


def test_large_bodies_do_not_reach_a_replica(answers: Upstream) -> None:
    with nginx([answers.port]) as front:
        answer = httpx.post(front.channels + WEBHOOK, content=b"x" * (2**20 + 1))
    assert answer.status_code == 413
    assert answers.heard == []
