"""A PostgreSQL: the one of TICKETLOCK_TEST_POSTGRES_URL, or a child process of the tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from . import missing
from .certificates import Certificates
from .processes import carry_out, child, free_port, own, persistent, temporary_folder, unprivileged

VARIABLE = "TICKETLOCK_TEST_POSTGRES_URL"
_TOOLS = ("initdb", "postgres", "pg_isready", "pg_basebackup")
PASSWORD = "p@ss w:o/r%d"  # what a URL must not be glued together from


@contextmanager
def tracker_sections() -> Iterator[Callable[[], dict[str, Any]]]:
    """Sections of a `tracker_store`, each for a new, empty database."""
    numbers = count()

    def section() -> dict[str, Any]:
        name = f"ticketlock-test-{os.getpid()}-{next(numbers)}"
        return {"type": "sql", "dialect": "postgresql", "login_db": "postgres", "db": name, **login}

    given = os.environ.get(VARIABLE)
    if given:
        parts = urlsplit(given)
        login: dict[str, Any] = {"url": parts.hostname, "port": parts.port or 5432}
        login |= {"username": parts.username, "password": parts.password}
        yield section
        return
    with server() as login:
        yield section


def server() -> AbstractContextManager[dict[str, Any]]:
    """Start a server; gives url, port, username and password."""
    return persistent(_server, "PostgreSQL")


def with_tls(certificates: Certificates) -> AbstractContextManager[dict[str, Any]]:
    """The same, with TLS by the certificate `server`, which is in its `folder`."""
    return persistent(lambda: _server(certificates), "PostgreSQL with TLS")


def careful() -> AbstractContextManager[dict[str, Any]]:
    """The same, but what it has confirmed is on the disk, as it is by default."""
    return persistent(lambda: _server(fsync=True), "PostgreSQL with fsync")


@contextmanager
def _server(
    certificates: Certificates | None = None, fsync: bool = False
) -> Iterator[dict[str, Any]]:
    tools = _tools()
    with temporary_folder() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "password").write_text(PASSWORD)
        (folder / "password").chmod(0o644)
        (folder / "data").mkdir()
        own(folder / "data")
        own(folder)
        env = {**os.environ, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
        carry_out(
            [tools["initdb"], "-D", f"{name}/data", "-U", "test", "--pwfile", f"{name}/password",
             "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
            cwd="/", env=env, **unprivileged(),
        )  # fmt: skip
        if certificates is not None:
            certificates.lend("server", folder, own)
            with (folder / "data" / "postgresql.conf").open("a") as file:
                file.write(f"ssl = on\nssl_cert_file = '{name}/server.pem'\n")
                file.write(f"ssl_key_file = '{name}/server.key'\nssl_ca_file = '{name}/ca.pem'\n")
        with _running(tools, folder, fsync) as port:
            login = {"url": "127.0.0.1", "port": port, "username": "test", "password": PASSWORD}
            yield login if certificates is None else {**login, "folder": folder}


@contextmanager
def standby(login: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A replica of the server of `login`, which follows it until it is promoted."""
    tools = _tools()
    with temporary_folder() as name:
        folder = Path(name)
        folder.chmod(0o755)
        own(folder)
        carry_out(
            [tools["pg_basebackup"], "-h", login["url"], "-p", str(login["port"]), "-U",
             login["username"], "-D", f"{name}/data", "-R", "-X", "stream", "-c", "fast",
             "--no-sync"],
            cwd="/", env={**os.environ, "PGPASSWORD": login["password"]}, **unprivileged(),
        )  # fmt: skip
        with _running(tools, folder) as port:
            yield {**login, "port": port}


@contextmanager
def _running(tools: dict[str, str], folder: Path, fsync: bool = False) -> Iterator[int]:
    """A server on the data in a folder; gives its port."""
    port = free_port()
    command = [tools["postgres"], "-D", f"{folder}/data", "-p", str(port)]
    for setting in (
        "listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", f"fsync={fsync}",
        "max_connections=100", "shared_buffers=32MB",
    ):  # fmt: skip
        command += ["-c", setting]
    ready = [tools["pg_isready"], "-h", "127.0.0.1", "-p", str(port), "-q"]
    with child(
        command,
        lambda: subprocess.run(ready, check=False).returncode == 0,
        folder / "log",
        stop_with=signal.SIGINT,
        cwd="/",
        env={**os.environ, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"},
        **unprivileged(),
    ):
        yield port


def reload(login: dict[str, Any]) -> None:
    """Let a server read its files again; from then on new connections and old ones use them.

    `pg_reload_conf` alone only asks for it. Once the process that accepts connections has read
    them it has told all others, which look before their next statement.
    """

    def ask(function: str) -> object:
        with psycopg.connect(
            host=login["url"], port=login["port"], user=login["username"],
            password=login["password"], dbname="postgres",
        ) as connection:  # fmt: skip
            row = connection.execute(f"SELECT {function}()").fetchone()
        return row[0] if row else None

    before = ask("pg_conf_load_time")
    ask("pg_reload_conf")
    while ask("pg_conf_load_time") == before:
        time.sleep(0.02)


def _tools() -> dict[str, str]:
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = os.pathsep.join([*map(str, folders), os.environ.get("PATH", "")])
    tools = {name: shutil.which(name, path=path) for name in _TOOLS}
    if not all(tools.values()):
        missing("PostgreSQL", f"apt-get install postgresql, or set {VARIABLE}")
    return {name: str(found) for name, found in tools.items()}
