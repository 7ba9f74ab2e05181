"""The server's socket."""

from __future__ import annotations

import socket

from ticketlock.server.run import listen


def test_connections_send_at_once() -> None:
    """No answer waits for the client's delayed acknowledgement."""
    with listen("127.0.0.1", 0) as listener:
        with socket.create_connection(listener.getsockname()[:2]):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
