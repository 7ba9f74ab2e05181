"""TLS that verifies nothing, or not enough."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from typing import Any

from .finding import Finding, fault

UNVERIFIED = fault(
    "tls-unverified", "error",
    "Anyone on the network path can pose as the server, and read and change everything, the password "
    "included.",
    "docs/reference/endpoints.md",
)  # fmt: skip

HOST = fault(
    "tls-hostname", "warning",
    "Any server with a certificate of that authority is trusted: a stolen one of another service is "
    "enough to pose as this one.",
    "docs/reference/endpoints.md",
)  # fmt: skip

_INSECURE = re.compile(r"(?i)[?&](tlsinsecure|tlsallowinvalid\w+)=true")


def of_redis(section: str, settings: Any) -> Iterator[Finding]:
    """The certificate may be for another host. Source: the keys of the section."""
    if settings.use_ssl and not settings.ssl_check_hostname:
        yield _host(section, "ssl_check_hostname")


def of_sql(section: str, settings: Any) -> Iterator[Finding]:
    """The certificate is not verified, or may be for another host. Source: as above."""
    tls = settings.tls
    if tls.on and not tls.verify:
        yield UNVERIFIED.found(
            f"{section}: tls_verify is false", "set ssl_ca_certs, and remove tls_verify"
        )
    elif tls.on and not tls.check_hostname:
        yield _host(section, "ssl_check_hostname")


def of_kafka(section: str, settings: Any) -> Iterator[Finding]:
    """The certificate may be for another host, which is the documented default. Source: as above."""
    if settings.security_protocol.endswith("SSL") and not settings.ssl_check_hostname:
        yield _host(section, "ssl_check_hostname")


def of_pika(section: str, settings: Any) -> Iterator[Finding]:
    """The certificate is not verified. Source: the parameters of the URL."""
    if settings.tls is not None and settings.tls.verify_mode == ssl.CERT_NONE:
        yield UNVERIFIED.found(
            f"{section}: verify_none, or no_verify_ssl", "set cacertfile in the url instead"
        )


def of_mongo(section: str, url: str) -> Iterator[Finding]:
    """The certificate is not verified. Source: the options in the URL."""
    if found := _INSECURE.search(url):
        yield UNVERIFIED.found(f"{section}: {found[1]}=true", "set tlsCAFile in the url instead")


def _host(section: str, key: str) -> Finding:
    return HOST.found(f"{section}: {key} is false", f"set {key} to true")
