"""TLS to SQL databases: one set of keys, translated for each driver.

If TLS is configured, the certificate is verified, and a server without TLS gets no password. If it
is not, PostgreSQL's drivers use TLS when the server offers it, and verify nothing.
"""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ticketlock.errors import ConfigurationError
from ticketlock.settings.keys import declared
from ticketlock.settings.section import Section
from ticketlock.settings.store_keys import TLSKeys

log = logging.getLogger("ticketlock.stores")

#: Parameters of URLs and `query`, as libpq and MySQL's clients name them -> key of the section.
_FILES = {
    "sslrootcert": "ssl_ca_certs", "sslcert": "ssl_certfile", "sslkey": "ssl_keyfile",
    "ssl_ca": "ssl_ca_certs", "ssl_cert": "ssl_certfile", "ssl_key": "ssl_keyfile",
}  # fmt: skip
_MODES = ("sslmode", "ssl_mode", "ssl-mode", "ssl")
#: Mode -> whether to use TLS, and whether to check the server's name; None: the driver's default.
_MEANINGS: dict[str, tuple[bool | None, bool]] = {
    "disable": (False, True), "disabled": (False, True), "false": (False, True), "0": (False, True),
    "allow": (None, True), "prefer": (None, True), "preferred": (None, True),
    "require": (True, True), "required": (True, True), "true": (True, True), "1": (True, True),
    "verify-ca": (True, False), "verify_ca": (True, False),
    "verify-full": (True, True), "verify_identity": (True, True),
}  # fmt: skip


@dataclass(frozen=True)
class SQLTLS:
    """The TLS settings of a connection.

    Attributes:
        on: whether to use TLS; None: the driver's default, without verification.
        ca: PEM file of trusted authorities; None: the system's.
        certificate, key: PEM files for a client certificate.
        check_hostname: whether the server's certificate must name the host.
        verify: whether it must be valid and from a trusted authority.
    """

    on: bool | None = None
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    check_hostname: bool = True
    verify: bool = True

    @classmethod
    def take(cls, section: Section, mode: str | None, files: Mapping[str, str]) -> SQLTLS:
        """Read the keys of a section, and the TLS parameters of its URL, `query` or variables.

        Args:
            mode: the TLS mode, as libpq names it; the key `use_ssl` overrides it.
            files: key -> path; the keys of the section override it.

        Raises ConfigurationError.
        """
        keys = section.read(TLSKeys)
        given = {
            "ssl_ca_certs": keys["ssl_ca_certs"],
            "ssl_certfile": keys["ssl_certfile"],
            "ssl_keyfile": keys["ssl_keyfile"],
        }
        paths = {key: path or files.get(key) or None for key, path in given.items()}
        asked, check, verify = keys["use_ssl"], keys["ssl_check_hostname"], keys["tls_verify"]
        on, by_mode = _meaning(section, mode)
        if asked is not None:
            on = asked
        elif any(given.values()) or check is not None or verify is not None:
            on = True
        if on is False and any([*given.values(), check is not None, verify is not None]):
            raise section.error("use_ssl", "is false (or the TLS mode is disable), but other keys "
                                "set up TLS: leave out the one or the others")  # fmt: skip
        for key, path in paths.items():
            if on and path is not None and not os.access(path, os.R_OK):
                raise section.error(key, f"{path!r} cannot be read")
        if on and bool(paths["ssl_certfile"]) != bool(paths["ssl_keyfile"]):
            raise section.error("ssl_certfile", "and ssl_keyfile go together")
        return cls(
            on, paths["ssl_ca_certs"], paths["ssl_certfile"], paths["ssl_keyfile"],
            by_mode if check is None else check, verify is not False,
        )  # fmt: skip

    def warn(self, address: str) -> None:
        """Log a warning for each check that is switched off. Call it at each start."""
        if not self.on:
            return
        if not self.verify:
            log.warning(
                "%s: tls_verify is false: anyone on the network path can read and change everything; "
                "set ssl_ca_certs instead", address,
            )  # fmt: skip
        elif not self.check_hostname:
            log.warning(
                "%s: ssl_check_hostname is false (or the mode of TLS is verify-ca): any server "
                "with a certificate of that authority is trusted", address,
            )  # fmt: skip

    def of_psycopg(self) -> dict[str, str]:
        """The settings as parameters of libpq."""
        if self.on is None:
            return {}
        if not self.on:
            return {"sslmode": "disable"}
        full = "verify-full" if self.check_hostname else "verify-ca"
        made = {"sslmode": full if self.verify else "require"}
        if self.verify:
            made["sslrootcert"] = self.ca or _system_authorities()
        else:
            made["sslrootcert"] = ""  # a default file in the home folder would turn checks on
        if self.certificate and self.key:
            made |= {"sslcert": self.certificate, "sslkey": self.key}
        return made

    def context(self) -> ssl.SSLContext:
        """The settings as a context of Python's `ssl`. Raises ConfigurationError."""
        try:
            made = ssl.create_default_context(cafile=self.ca)
            if self.certificate:
                # Without a password OpenSSL would ask for one on the terminal.
                made.load_cert_chain(self.certificate, self.key, password=b"")
        except (OSError, ValueError) as error:  # of which ssl.SSLError is one
            files = ", ".join(path for path in (self.ca, self.certificate, self.key) if path)
            raise ConfigurationError(
                f"TLS: {files}: {error}; the files are PEM, the key is not encrypted"
            ) from error
        made.check_hostname = self.verify and self.check_hostname
        if not self.verify:
            made.verify_mode = ssl.CERT_NONE
        return made


def take_from_query(query: Mapping[str, Any]) -> tuple[str | None, dict[str, str]]:
    """The TLS mode and files in the parameters of a URL or of `query`."""
    mode, files = None, {}
    for name, value in query.items():
        if name.lower() in _MODES:
            mode = str(value)
        elif name.lower() in _FILES:
            files[_FILES[name.lower()]] = str(value)
    return mode, files


def is_tls(name: str, libpq: bool) -> bool:
    """Whether a parameter of a URL or `query` is about TLS and replaced by keys of the section.

    Other parameters of libpq (sslcrl, sslnegotiation, ...) are passed on to it.
    """
    known = name.lower() in (*_MODES, *_FILES)
    return known or (not libpq and name.lower().startswith(("ssl", "tls")))


def refuse_others(section: Section, query: Mapping[str, Any], libpq: bool) -> None:
    """Raise ConfigurationError for TLS parameters that every driver would ignore."""
    for name in query:
        if is_tls(name, libpq) and name.lower() not in (*_MODES, *_FILES):
            ours = ", ".join(declared(TLSKeys))
            raise section.error("query", f"{name}: is not known; the keys for TLS are {ours}")


def _meaning(section: Section, mode: str | None) -> tuple[bool | None, bool]:
    if not mode:
        return None, True
    try:
        return _MEANINGS[mode.lower()]
    except KeyError:
        known = "disable, allow, prefer, require, verify-ca, verify-full"
        raise section.error("sslmode", f"{mode!r} is not one of {known}") from None


def _system_authorities() -> str:
    """The system's trusted authorities as Python finds them; libpq has another default."""
    paths = ssl.get_default_verify_paths()
    return paths.cafile or "system"


async def connect_mysql(*arguments: Any, **keys: Any) -> Any:
    """aiomysql's connection, with an error instead of no TLS if the server offers none."""
    from aiomysql.connection import Connection
    from pymysql.constants import CLIENT
    from pymysql.err import OperationalError

    class Connected(Connection):  # type: ignore[misc]  # no type information
        async def _request_authentication(self) -> None:
            if not self.server_capabilities & CLIENT.SSL:
                raise OperationalError(2026, "TLS is asked for, and the server has none")
            try:
                await super()._request_authentication()
            except ssl.SSLError as error:
                raise OperationalError(2026, f"TLS: {error}") from error

        def close(self) -> None:
            if self._writer is not None:
                # Not `close`: it would wait for the server, beyond the end of the loop.
                self._writer.transport.abort()
            super().close()

    connection = Connected(*arguments, **keys)
    await connection._connect()  # noqa: SLF001  # aiomysql's own `connect` does just this
    return connection
