"""Address, login and TLS of a RabbitMQ section, whose keys are in `settings/broker_keys.py`."""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import pika

from ticketlock.errors import ConfigurationError
from ticketlock.settings.broker_keys import PikaKeys
from ticketlock.settings.keys import declared
from ticketlock.settings.section import PERCENT, Section, is_cut_off, mask_url

log = logging.getLogger("ticketlock.brokers")

#: The documented variables for TLS, and those that are no longer supported, as documented.
CERTIFICATE, KEY = "RABBITMQ_SSL_CLIENT_CERTIFICATE", "RABBITMQ_SSL_CLIENT_KEY"
_GONE = {
    "RABBITMQ_SSL_CA_FILE": "give the URL parameter cacertfile instead",
    "RABBITMQ_SSL_KEY_PASSWORD": "use a key file that is not encrypted",
}


@dataclass(frozen=True)
class PikaSettings:
    """Checked settings of one RabbitMQ. Secrets do not show in the repr.

    Attributes:
        tls: None for a plain connection.
        server_name: the name that the server's certificate must have.
        heartbeat: seconds; None: the server decides.
        timeout: seconds for each step of connecting.
    """

    host: str
    port: int
    username: str
    password: str = field(repr=False)
    vhost: str
    queues: tuple[str, ...]
    exchange: str
    keep: bool
    raise_on_failure: bool
    attempts: int
    retry_delay: float
    tls: ssl.SSLContext | None
    server_name: str | None
    heartbeat: int | None
    timeout: float

    @property
    def address(self) -> str:
        vhost = "" if self.vhost == "/" else f", vhost {self.vhost}"
        return f"RabbitMQ at {self.host}:{self.port}{vhost}"

    @classmethod
    def read(cls, section: Section) -> PikaSettings:
        """Read all keys of `section` and finish it. Raises ConfigurationError."""
        keys = section.read(PikaKeys)
        key, text = section.place()
        if not text:
            raise section.error(key, "is missing: a host, or an amqp:// or amqps:// URL")
        parts = _split(section, key, text)
        query = Section(dict(parse_qsl(parts.query)), f"parameters of {key}")
        tls, server_name = _tls(query, parts)
        heartbeat = query.integer("heartbeat", None, 0, 65535)
        timeout = query.number("connection_timeout", 10.0, 0.1)
        query.finish()
        settings = cls(
            host=parts.hostname or "",
            port=_same(section, key, "port", _port(section, key, parts), keys["port"])
            or (5671 if parts.scheme == "amqps" else 5672),
            username=_login(section, key, "username", parts.username, keys["username"]),
            password=_login(section, key, "password", parts.password, keys["password"]),
            vhost=unquote(parts.path[1:]) or "/",
            queues=tuple(keys["queues"]) or tuple(declared(PikaKeys)["queues"].default),
            exchange=keys["exchange_name"],
            keep=keys["should_keep_unpublished_messages"],
            raise_on_failure=keys["raise_on_failure"],
            attempts=keys["connection_attempts"],
            retry_delay=keys["retry_delay_in_seconds"],
            tls=tls,
            server_name=server_name,
            heartbeat=heartbeat,
            timeout=timeout,
        )
        section.finish()
        return settings

    def connection_parameters(self, name: str) -> pika.ConnectionParameters:
        """What pika connects with.

        Args:
            name: of the connection, in the server's list.
        """
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.username, self.password),
            heartbeat=self.heartbeat,
            ssl_options=pika.SSLOptions(self.tls, self.server_name) if self.tls else None,
            socket_timeout=self.timeout,
            stack_timeout=self.timeout,
            connection_attempts=1,
            client_properties={"connection_name": name},
        )


def _split(section: Section, key: str, text: str) -> SplitResult:
    """A URL's parts; a host or host:port is read as amqp://."""
    try:
        parts = urlsplit(text if "://" in text else f"amqp://{text}")
    except ValueError:  # brackets; the original error would show the password
        raise section.error(
            key,
            f"{mask_url(text)!r} is not a URL: in user and password write [ as %5B and ] as %5D",
        ) from None
    if is_cut_off(parts.geturl()):
        raise section.error(key, PERCENT)
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        shown = mask_url(text)
        raise section.error(key, f"{shown!r} is neither a host nor an amqp:// or amqps:// URL")
    return parts


def _port(section: Section, key: str, parts: SplitResult) -> int | None:
    try:
        return parts.port
    except ValueError:
        raise section.error(key, "its port is not a number from 1 to 65535") from None


def _login(section: Section, key: str, name: str, in_url: str | None, given: str | None) -> str:
    """User or password, from the key or from the URL, where it is percent-encoded."""
    decoded = None if in_url is None else unquote(in_url)
    found = _same(section, key, name, decoded, given)
    if found is None:
        raise section.error(name, f"is missing, here and in {key}")
    return str(found)


def _same(section: Section, key: str, name: str, in_url: Any, given: Any) -> Any:
    if in_url is not None and given is not None and in_url != given:
        raise section.error(name, f"is not the one in {key}; give one of them")
    return given if in_url is None else in_url


def _tls(query: Section, parts: SplitResult) -> tuple[ssl.SSLContext | None, str | None]:
    """The TLS settings of the documented variables, or of an amqps:// URL and its parameters."""
    for variable, way in _GONE.items():
        if os.environ.get(variable):
            log.warning("environment variable %s is no longer supported: %s", variable, way)
    authority = query.text("cacertfile", None)
    certificate = query.text("certfile", None) or os.environ.get(CERTIFICATE) or None
    key = query.text("keyfile", None) or os.environ.get(KEY) or None
    verify = query.choice("verify", ("verify_peer", "verify_none"), "verify_peer")
    trusting = query.flag("no_verify_ssl", False) or verify == "verify_none"
    name = query.text("server_name_indication", None) or parts.hostname
    if bool(certificate) != bool(key):
        lacking = KEY if certificate else CERTIFICATE
        raise ConfigurationError(
            f"environment variable {lacking} is missing: a certificate and its key go together"
        )
    if parts.scheme != "amqps" and not (certificate or authority):
        return None, None
    try:
        context = ssl.create_default_context(cafile=authority)
        if certificate:
            # Without a password OpenSSL would ask for one on the terminal.
            context.load_cert_chain(certificate, key, password=b"")
    except (OSError, ValueError) as error:  # of which ssl.SSLError is one
        files = ", ".join(path for path in (authority, certificate, key) if path)
        raise ConfigurationError(
            f"TLS for RabbitMQ: {files}: {error}; the files are PEM, the key is not encrypted"
        ) from error
    if trusting:
        log.warning(
            "RabbitMQ at %s: its certificate is not verified (verify, no_verify_ssl): anyone on the "
            "network path can read and change everything; set cacertfile instead", parts.hostname,
        )  # fmt: skip
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context, name
