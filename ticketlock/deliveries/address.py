"""URLs that are posted to: what a configuration may name, and which addresses are connected to."""

from __future__ import annotations

import base64
import ipaddress
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

#: Never posted to: link-local networks and the addresses at which clouds hand out credentials.
_NEVER = tuple(
    ipaddress.ip_network(text)
    for text in ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "100.100.100.200/32")
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class CheckedURL:
    """A checked `http` or `https` URL; as text it has neither user, path nor query.

    Attributes:
        target: path and query.
        authorization: the header's value for the user and password in the URL; None without.
    """

    scheme: str
    host: str
    port: int
    target: str = field(repr=False)
    authorization: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}"

    @property
    def tls(self) -> bool:
        """Whether it is connected to by TLS."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """The value of the header `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> CheckedURL:
        """Raises ConfigurationError, which does not show the URL."""
        try:
            parts = urlsplit(text)
            port = parts.port
            host = (parts.hostname or "").encode("idna").decode() if parts.hostname else ""
        except (ValueError, UnicodeError):
            raise ConfigurationError("is not a URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ConfigurationError("is not an http:// or https:// URL with a host")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not target.isascii() or any(not 32 < ord(c) < 127 for c in target) or parts.fragment:
            raise ConfigurationError("has a character that must be percent-encoded, or a fragment")
        user = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            user = "Basic " + base64.b64encode(pair.encode()).decode()
        tls = parts.scheme == "https"
        return cls(parts.scheme, host, port or (443 if tls else 80), target, user)


def url_problem(text: str) -> str | None:
    """What is wrong with a URL, as a key's check says it; None: nothing."""
    try:
        CheckedURL.parse(text)
    except ConfigurationError as error:
        return str(error)
    return None


def allowed(address: str, *, private: bool) -> bool:
    """Whether an address may be connected to.

    Args:
        private: whether loopback, private and shared networks are.
    """
    found = ipaddress.ip_address(address)
    return all(_allowed(one, private) for one in (found, *_inside(found)))


def possible(host: str, *, private: bool) -> bool:
    """Whether a host may lead to an address that is allowed, as far as that is known without asking."""
    try:
        return allowed("127.0.0.1" if host == "localhost" else host, private=private)
    except ValueError:  # a name
        return True


def _allowed(address: _Address, private: bool) -> bool:
    if any(address.version == net.version and address in net for net in _NEVER):
        return False
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return False
    if address.version == 4 and address.is_reserved:
        return False
    return private or address.is_global


def _inside(address: _Address) -> list[_Address]:
    """The addresses of version 4 that one of version 6 leads to."""
    if isinstance(address, ipaddress.IPv4Address):
        return []
    found: list[_Address] = [
        one for one in (address.ipv4_mapped, address.sixtofour) if one is not None
    ]
    if address.teredo is not None:
        found += address.teredo
    if address in _NAT64:
        found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found
