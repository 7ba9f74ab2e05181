"""TLS to real PostgreSQL and MariaDB servers: what is asked for is verified, everywhere."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import mariadb, postgres
from servers.certificates import Certificates
from servers.processes import own

from ticketlock.endpoints import EndpointConfig
from ticketlock.endpoints.registry import (
    create_event_database,
    create_tracker_store,
    event_broker_maker,
)
from ticketlock.errors import ConfigurationError, TicketLockError
from ticketlock.publishing.message import BrokerMessage

Section = dict[str, Any]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Server:
    """A server with TLS. Its certificate can be changed while it runs."""

    def __init__(self, dialect: str, login: Section, certificates: Certificates) -> None:
        self._folder: Path = login.pop("folder")
        self._certificates = certificates
        self.section = {"dialect": dialect, **login, "db": "tls"}
        if dialect == "postgresql":
            self.section["login_db"] = "postgres"
        else:
            for name in ("tls", "tls_events"):
                asyncio.run(mariadb.create(login, name))

    def show(self, name: str) -> None:
        """Let it show another certificate."""
        self._certificates.lend(name, self._folder, own)
        asyncio.run(self._reload())

    async def _reload(self) -> None:
        section = self.section
        if section["dialect"] == "postgresql":
            await asyncio.to_thread(postgres.reload, section)
            return
        import aiomysql

        login = {"host": section["url"], "port": section["port"], "user": section["username"]}
        connection = await aiomysql.connect(**login, password=section["password"])
        async with connection.cursor() as cursor:
            await cursor.execute("FLUSH SSL")
        await connection.ensure_closed()


@pytest.fixture(scope="module", params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Server]:
    kind = postgres if request.param == "postgresql" else mariadb
    with kind.with_tls(certificates) as login:
        yield Server(request.param, dict(login), certificates)


@pytest.fixture
def showing(server: Server) -> Iterator[Callable[[str], None]]:
    yield server.show
    server.show("server")


async def tracker_store(section: Section) -> None:
    """Open a store and use it."""
    async with create_tracker_store({"type": "sql", **section}) as store:
        await store.exists("anna")


async def event_service(section: Section) -> None:
    _, database = create_event_database(section, "event_service")
    async with database:
        await database.gaps()


async def broker(section: Section) -> None:
    endpoint = EndpointConfig(type="sql", **{**section, "db": section["db"] + "_events"})
    maker = event_broker_maker(endpoint, "event_broker")
    assert maker is not None
    made = await maker()
    try:
        (outcome,) = await made.deliver([BrokerMessage("anna", 0, {"event": "restart"})])
        if outcome.status != "delivered":
            raise TicketLockError(str(outcome))
    finally:
        await made.close()


USES = {"tracker store": tracker_store, "event service": event_service, "broker": broker}


def outcome(use: str, section: Section) -> str:
    """What it says; empty where it works."""
    try:
        asyncio.run(asyncio.wait_for(USES[use](section), 60))
    except TicketLockError as error:
        said = str(error)
    else:
        said = ""
    assert str(section["password"]) not in said
    return said


@pytest.mark.parametrize("use", USES)
def test_good(server: Server, certificates: Certificates, use: str) -> None:
    """With the authority; with a certificate of our own too."""
    ca = certificates["ca.pem"]
    assert outcome(use, {**server.section, "ssl_ca_certs": ca}) == ""
    pair = {"ssl_certfile": certificates["client.pem"], "ssl_keyfile": certificates["client.key"]}
    assert outcome(use, {**server.section, "use_ssl": True, "ssl_ca_certs": ca, **pair}) == ""


@pytest.mark.parametrize("use", USES)
def test_wrong_authority(server: Server, certificates: Certificates, use: str) -> None:
    """Another one, and the system's: neither has signed it."""
    for keys in ({"ssl_ca_certs": certificates["other-ca.pem"]}, {"use_ssl": "true"}):
        said = outcome(use, {**server.section, **keys})
        assert "certificate verify failed" in said
        assert "check use_ssl, ssl_ca_certs" in said


@pytest.mark.parametrize("use", USES)
def test_wrong_host(
    server: Server, certificates: Certificates, showing: Callable[[str], None], use: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A certificate of another host of the same authority; unless that is not to be checked."""
    keys = {"ssl_ca_certs": certificates["ca.pem"]}
    assert outcome(use, {**server.section, **keys, "url": "localhost"}) != ""
    showing("elsewhere")
    said = outcome(use, {**server.section, **keys})
    assert "certificate" in said
    assert "check use_ssl, ssl_ca_certs and ssl_check_hostname" in said
    assert "WARNING" not in caplog.text
    assert outcome(use, {**server.section, **keys, "ssl_check_hostname": False}) == ""
    assert "ssl_check_hostname is false" in caplog.text


@pytest.mark.parametrize("use", USES)
def test_expired(
    server: Server, certificates: Certificates, showing: Callable[[str], None], use: str
) -> None:
    showing("expired")
    keys = {"ssl_ca_certs": certificates["ca.pem"]}
    for more in ({}, {"ssl_check_hostname": False}):
        said = outcome(use, {**server.section, **keys, **more})
        assert "certificate verify failed" in said
        assert server.section["dialect"] == "postgresql" or "expired" in said  # libpq does not say


@pytest.mark.parametrize("use", USES)
def test_unverified_only_where_it_is_said(
    server: Server, showing: Callable[[str], None], use: str, caplog: pytest.LogCaptureFixture
) -> None:
    """`tls_verify: false` takes any certificate, and warns each time it starts."""
    showing("expired")
    for start in (1, 2):
        assert outcome(use, {**server.section, "tls_verify": "false"}) == ""
        warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
        assert len([r for r in warnings if "tls_verify is false" in r.getMessage()]) == start


def test_words_of_drivers_mean_the_same(
    server: Server, certificates: Certificates, showing: Callable[[str], None]
) -> None:
    """In `query`, in a URL: what asks for TLS is verified."""
    postgresql = server.section["dialect"] == "postgresql"
    mode, authority = ("sslmode", "sslrootcert") if postgresql else ("ssl_mode", "ssl_ca")
    ask = "require" if postgresql else "required"
    good = {mode: ask, authority: certificates["ca.pem"]}
    assert outcome("tracker store", {**server.section, "query": good}) == ""
    unknown = {mode: ask}
    assert "verify failed" in outcome("tracker store", {**server.section, "query": unknown})
    showing("elsewhere")
    assert "certificate" in outcome("tracker store", {**server.section, "query": good})
    by_authority = {**good, mode: "verify-ca"}
    assert outcome("tracker store", {**server.section, "query": by_authority}) == ""


def test_the_documented_variables(
    server: Server, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the tracker store's on PostgreSQL, and are verified too."""
    if server.section["dialect"] != "postgresql":
        monkeypatch.setenv("SQL_TRACKER_STORE_SSL_MODE", "nonsense")  # not for it
        assert outcome("tracker store", server.section) == ""
        return
    monkeypatch.setenv("SQL_TRACKER_STORE_SSL_MODE", "require")
    assert "verify failed" in outcome("tracker store", server.section)
    monkeypatch.setenv("SQL_TRACKER_STORE_SSL_ROOT_CERTIFICATE", certificates["ca.pem"])
    assert outcome("tracker store", server.section) == ""
    monkeypatch.setenv("SQL_TRACKER_STORE_SSL_MODE", "sometimes")
    assert "'sometimes' is not one of" in outcome("tracker store", server.section)


class Without:
    """A server that says it has no TLS, and writes down what it is sent."""

    #: How PostgreSQL's clients ask whether there is TLS.
    ASKS_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
    #: MySQL's greeting: protocol 10, capabilities without SSL, an authentication in clear.
    GREETING = (
        b"\x0a8.0.0\x00\x01\x00\x00\x0012345678\x00\x01\xa2\x21\x02\x00\x08\x00\x15" + b"\x00" * 10
        + b"123456789012\x00mysql_clear_password\x00"
    )  # fmt: skip

    def __init__(self, dialect: str) -> None:
        self._postgresql = dialect == "postgresql"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.heard = b""
        self.asked = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self._speak(connection)

    def _speak(self, connection: socket.socket) -> None:
        self.asked += 1
        try:
            if self._postgresql:
                first = connection.recv(8)
                if first == self.ASKS_FOR_TLS:
                    connection.sendall(b"N")
                else:
                    self.heard += first
                self.heard += connection.recv(1000)
                connection.sendall(b"R\x00\x00\x00\x08\x00\x00\x00\x03")  # the password, in clear
            else:
                size = len(self.GREETING).to_bytes(3, "little")
                connection.sendall(size + b"\x00" + self.GREETING)
            while b"my-password" not in self.heard and (part := connection.recv(1000)):
                self.heard += part
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("keys", [{"use_ssl": True}, {"tls_verify": False}])
def test_a_server_without_tls_gets_no_password(dialect: str, use: str, keys: Section) -> None:
    """Not even where its certificate would not be verified."""
    server = Without(dialect)
    section = {"dialect": dialect, "url": "127.0.0.1", "port": server.port, "db": "x"}
    section |= {"username": "anna", "password": "my-password", "timeout": 5}
    try:
        said = outcome(use, {**section, **keys})
        assert server.asked
        assert b"my-password" not in server.heard
        assert b"anna" not in server.heard
        assert "TLS" in said or "SSL" in said
    finally:
        server.close()


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_that_server_would_get_it_else(dialect: str) -> None:
    """The test above can fail: without TLS the password is sent as such a server wants it."""
    server = Without(dialect)
    section = {"dialect": dialect, "url": "127.0.0.1", "port": server.port, "db": "x"}
    section |= {"username": "anna", "password": "my-password", "timeout": 5, "use_ssl": False}
    try:
        assert outcome("tracker store", section) != ""
        assert b"anna" in server.heard
        assert b"my-password" in server.heard
    finally:
        server.close()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"use_ssl": False, "ssl_ca_certs": "x"}, "use_ssl: is false"),
        ({"ssl_ca_certs": "/nowhere/ca.pem"}, "ssl_ca_certs: '/nowhere/ca.pem' cannot be read"),
        ({"ssl_certfile": __file__}, "ssl_certfile: and ssl_keyfile go together"),
        ({"use_ssl": "maybe"}, "use_ssl: 'maybe' is not true or false"),
        ({"query": {"ssl_mode": "sometimes"}}, "'sometimes' is not one of disable"),
        ({"dialect": "mysql", "query": {"ssl_cipher": "x"}}, "query: ssl_cipher: is not known"),
        ({"dialect": "mysql", "query": {"tls_ciphers": "x"}}, "the keys for TLS are use_ssl"),
        ({"dialect": "sqlite", "use_ssl": True}, "use_ssl: is not for sqlite"),
        ({"dialect": "mysql+asyncmy", "use_ssl": True}, "use_ssl: is not for asyncmy"),
    ],
)
def test_what_is_wrong_is_named(keys: Section, says: str) -> None:
    """Each is an error with the key, before anything is connected to; no traceback."""
    with pytest.raises(ConfigurationError, match=says):
        create_tracker_store({"type": "sql", "dialect": "postgresql", "url": "h", **keys})


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_a_file_that_is_no_certificate(dialect: str) -> None:
    """The error names it."""
    section = {"dialect": dialect, "url": "127.0.0.1", "port": 1, "ssl_ca_certs": __file__}
    said = outcome("tracker store", {**section, "password": "x-password", "username": "u"})
    assert said
    assert dialect != "mysql" or __file__ in said
