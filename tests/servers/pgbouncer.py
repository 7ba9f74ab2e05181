"""A pgbouncer in front of a PostgreSQL, in transaction mode: the common pooler, the hard way."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from . import missing
from .processes import child, free_port, own, persistent, temporary_folder, unprivileged

#: Connections of the pooler to each database: fewer than its clients have.
SERVER_CONNECTIONS = 4


def in_front_of(
    login: dict[str, Any], **settings: object
) -> AbstractContextManager[dict[str, Any]]:
    """Start one; gives the login, or section, `login` with its port in place of the server's.

    Args:
        settings: of the section [pgbouncer], such as `ignore_startup_parameters`.
    """
    return persistent(lambda: _server(login, settings), "pgbouncer")


@contextmanager
def _server(login: dict[str, Any], settings: dict[str, object]) -> Iterator[dict[str, Any]]:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    program = shutil.which("pgbouncer", path=path)
    if not program:
        missing("pgbouncer", "apt-get install pgbouncer")
    with temporary_folder() as name:
        folder = Path(name)
        port = settings.get("listen_port", 0) or free_port()
        quoted = login["password"].replace('"', '""')
        (folder / "users").write_text(f'"{login["username"]}" "{quoted}"\n')
        lines = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "",
            "auth_type": "scram-sha-256", "auth_file": folder / "users",
            "pool_mode": "transaction", "default_pool_size": SERVER_CONNECTIONS,
            "max_client_conn": 500, **settings,
        }  # fmt: skip
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={login['url']} port={login['port']}\n[pgbouncer]\n"
            + "".join(f"{key} = {value}\n" for key, value in lines.items())
        )
        own(folder)
        command = [str(program), str(folder / "pgbouncer.ini")]
        with child(
            command, lambda: _answers(port), folder / "log", stop_with=2, cwd="/", **unprivileged()
        ):
            yield {**login, "port": port}


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.5).close()
    except OSError:
        return False
    return True
