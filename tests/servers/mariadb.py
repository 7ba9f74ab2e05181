"""A MariaDB: the one of TICKETLOCK_TEST_MARIADB_URL, or a child process of the tests."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import missing
from .certificates import Certificates
from .processes import carry_out, child, free_port, own, persistent, temporary_folder, unprivileged

VARIABLE = "TICKETLOCK_TEST_MARIADB_URL"
PASSWORD = "p@ss w:o/r%d"


@contextmanager
def tracker_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """Sections of a `tracker_store`, each for a new, empty database."""
    numbers = count()

    def section() -> dict[str, Any]:
        name = f"ticketlock-test-{os.getpid()}-{next(numbers)}"
        asyncio.run(create(login, name))
        return {"type": "sql", "dialect": "mysql", "db": name, **login}

    given = os.environ.get(VARIABLE)
    if given:
        parts = urlsplit(given)
        login: dict[str, Any] = {"url": parts.hostname, "port": parts.port or 3306}
        login |= {"username": parts.username, "password": parts.password}
        yield section
        return
    with server() as login:
        yield section


async def create(login: dict[str, Any], name: str) -> None:
    import aiomysql

    connection = await aiomysql.connect(
        host=login["url"],
        port=login["port"],
        user=login["username"],
        password=login["password"],
    )
    async with connection.cursor() as cursor:
        await cursor.execute(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
    connection.close()


def server() -> AbstractContextManager[dict[str, Any]]:
    """Start a server; gives url, port, username and password."""
    return persistent(_server, "MariaDB")


def with_tls(certificates: Certificates) -> AbstractContextManager[dict[str, Any]]:
    """The same, with TLS by the certificate `server`, which is in its `folder`."""
    return persistent(lambda: _server(certificates), "MariaDB with TLS")


@contextmanager
def _server(certificates: Certificates | None = None) -> Iterator[dict[str, Any]]:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    daemon = shutil.which("mariadbd", path=path)
    install = shutil.which("mariadb-install-db", path=path)
    if not daemon or not install:
        missing("MariaDB", f"apt-get install mariadb-server, or set {VARIABLE}")
    with temporary_folder() as name:
        folder = Path(name)
        folder.chmod(0o755)
        own(folder)
        carry_out(
            [str(install), "--no-defaults", f"--datadir={name}/data", "--skip-test-db",
             "--auth-root-authentication-method=normal"],
            cwd="/", **unprivileged(),
        )  # fmt: skip
        (folder / "login.sql").write_text(
            f"CREATE USER test@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO test@'%' WITH GRANT OPTION;\n"
        )
        (folder / "login.sql").chmod(0o644)
        port = free_port()
        command = [
            str(daemon), "--no-defaults", f"--datadir={name}/data", f"--port={port}",
            "--bind-address=127.0.0.1", f"--socket={name}/socket", f"--pid-file={name}/pid",
            "--innodb-flush-log-at-trx-commit=0", "--skip-name-resolve",
            # One that starts removes the temporary files of those that share the folder.
            f"--init-file={name}/login.sql", f"--tmpdir={name}",
        ]  # fmt: skip
        if certificates is not None:
            certificates.lend("server", folder, own)
            command += [f"--ssl-cert={name}/server.pem", f"--ssl-key={name}/server.key"]
            command += [f"--ssl-ca={name}/ca.pem"]
        with child(command, lambda: _answers(port), folder / "log", cwd="/", **unprivileged()):
            login = {"url": "127.0.0.1", "port": port, "username": "test", "password": PASSWORD}
            yield login if certificates is None else {**login, "folder": folder}


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            return bool(connection.recv(1))
    except OSError:
        return False
