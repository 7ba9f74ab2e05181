"""Address and login of a Redis: the documented keys, checked once, used by every store."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..settings.section import PERCENT, Section, is_cut_off, mask_url
from ..settings.store_keys import RedisLockKeys

log = logging.getLogger("ticketlock.lock")


@dataclass(frozen=True)
class RedisSettings:
    """Checked settings of one Redis deployment. Secrets are not in the repr.

    Attributes:
        socket_timeout: seconds to connect, and to wait for an answer.
        endpoints: `(host, port)` of cluster nodes or sentinels.
    """

    host: str
    port: int
    db: int
    username: str | None
    password: str | None = field(repr=False)
    use_ssl: bool
    ssl_certfile: str | None
    ssl_keyfile: str | None
    ssl_ca_certs: str | None
    ssl_check_hostname: bool
    key_prefix: str | None
    socket_timeout: float
    deployment_mode: str
    endpoints: tuple[tuple[str, int], ...]
    sentinel_service: str
    sentinel_username: str | None
    sentinel_password: str | None = field(repr=False)
    unix_socket_path: str | None
    credential_provider: Any = field(repr=False)

    @classmethod
    def read(cls, section: Section, declared: Any = RedisLockKeys) -> RedisSettings:
        """Read the Redis keys of `section`; the caller reads its own keys and finishes it.

        Args:
            declared: the keys, among them `db` with its default.
        """
        location = _location(section, *section.place())
        keys = section.values(declared, location)
        endpoints = tuple(_endpoint(section, text) for text in keys["endpoints"])
        if keys["deployment_mode"] == "sentinel" and not endpoints:
            raise section.error("endpoints", "is missing: list the sentinels as host:port")
        settings = cls(
            **{each.name: keys[each.name] for each in fields(cls)}
            | {
                "host": location.get("host", "localhost"),
                "key_prefix": keys["key_prefix"] or None,
                "endpoints": endpoints,
            }
        )
        if settings.use_ssl and not settings.ssl_check_hostname:
            log.warning(
                "%s: ssl_check_hostname is false: any server with a certificate of that authority "
                "is trusted", section.where,
            )  # fmt: skip
        if settings.username and not (settings.password or settings.credential_provider):
            raise section.error("password", "is missing: a username alone cannot log in")
        if settings.sentinel_username and not settings.sentinel_password:
            raise section.error("sentinel_password", "is missing: a username alone cannot log in")
        return settings

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str = "redis") -> RedisSettings:
        """Settings from a mapping; unknown keys are rejected."""
        section = Section(values, where)
        settings = cls.read(section)
        section.finish()
        return settings

    def prefixed(self, name: str) -> str:
        """`name` with the key prefix, if one is set."""
        return f"{self.key_prefix}:{name}" if self.key_prefix else name

    @property
    def address(self) -> str:
        """Host and port, for error texts."""
        if self.unix_socket_path:
            return self.unix_socket_path
        nodes = ",".join(_shown(host, port) for host, port in self.endpoints)
        if self.deployment_mode == "sentinel":
            return f"{self.sentinel_service} at {nodes}"
        if self.deployment_mode == "cluster" and nodes:
            return nodes
        return _shown(self.host, self.port)

    def connection_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of redis-py's connection classes, of its versions from 4.6 on.

        They do not retry: an INCR would run twice when its answer is lost.
        """
        kwargs: dict[str, Any] = {
            "db": self.db,
            "username": _user(self.username, self.password),
            "password": self.password,
            "credential_provider": self.credential_provider,
            "socket_timeout": self.socket_timeout,
            "socket_connect_timeout": self.socket_timeout,
        }
        if self.unix_socket_path:
            return {**kwargs, "path": self.unix_socket_path}
        if self.use_ssl:
            kwargs |= {
                "ssl_certfile": self.ssl_certfile,
                "ssl_keyfile": self.ssl_keyfile,
                "ssl_ca_certs": self.ssl_ca_certs,
                "ssl_check_hostname": self.ssl_check_hostname,
            }
        return {**kwargs, "host": self.host, "port": self.port, "socket_keepalive": True}

    def sentinel_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of a connection to a sentinel, without host and port.

        A sentinel has its own users; it uses TLS if the servers do.
        """
        kwargs = self.connection_kwargs()
        for key in ("host", "port", "db", "credential_provider"):
            kwargs.pop(key, None)
        password = self.sentinel_password
        username = _user(self.sentinel_username, password)
        return {**kwargs, "username": username, "password": password}


def _user(name: str | None, password: str | None) -> str | None:
    """The user of a login: an AUTH without one is refused where the default user needs none."""
    return name or ("default" if password else None)


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _location(section: Section, key: str, text: str | None) -> dict[str, Any]:
    """Split `host`, `host:port` or a redis://, rediss:// or unix:// URL."""
    if not text:
        return {}
    if "://" in text:
        from redis.asyncio.connection import parse_url

        if is_cut_off(text):
            raise section.error(key, PERCENT)
        try:
            parsed: dict[str, Any] = dict(parse_url(text))
        except ValueError:  # its text may contain parts of a password
            raise section.error(
                key, f"{mask_url(text)!r} is not a Redis URL (redis://, rediss:// or unix://)"
            ) from None
        parsed.pop("connection_class", None)
        for option in parsed.keys() - _IN_URL:
            raise section.error(key, f"{option} is not supported in the URL; give it as a key")
        parsed["use_ssl"] = text.startswith("rediss://")
        if "path" in parsed:
            parsed["unix_socket_path"] = parsed.pop("path")
        return parsed
    if text.count(":") == 1 or "@" in text or "]:" in text:
        host, port = _endpoint(section, text, key)
        return {"host": host, "port": port}
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1]  # an IPv6 address without a port
    return {"host": text}


#: What a Redis URL may have; in its query: db, ssl_ca_certs, ssl_certfile, ssl_keyfile, ...
_IN_URL = {
    "host", "port", "db", "username", "password", "path", "ssl_ca_certs", "ssl_certfile",
    "ssl_keyfile", "ssl_check_hostname", "socket_timeout",
}  # fmt: skip


def _endpoint(section: Section, text: str, key: str = "endpoints") -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    host = host[1:-1] if bracketed else host
    if not host or not port.isdigit() or "@" in text or (":" in host) != bracketed:
        form = "host:port, or [address]:port for IPv6"
        raise section.error(key, f"{mask_url(text)!r} is not {form}")
    if not 1 <= int(port) <= 65535:
        raise section.error(key, f"{text!r}: a port is a number from 1 to 65535")
    return host, int(port)
