"""Which names a server answers to, and which web pages may write to it.

A browser lets any page send a POST to any server it can reach, this machine's own too; the page
cannot read the answer, but the message is stored. And a page whose own name is made to point to
this machine (DNS rebinding) is of the same origin for the browser, and reads everything.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import RequestError, describe

#: What a server that listens on this machine alone answers to, without `allowed_hosts`.
LOCAL = ("localhost",)

_READS = ("GET", "HEAD", "OPTIONS")


class ForeignHost(RequestError):
    """The request is for a host that this server is not."""

    status, reason = 421, "ForeignHost"


class CrossSite(RequestError):
    """A web page of another site wants to write."""

    status, reason = 403, "CrossSite"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Sites:
    """The middleware that refuses foreign hosts, and writes of foreign pages.

    Args:
        hosts: names that it answers to, besides addresses, which cannot be made to point
            elsewhere; empty: any.
        origins: of pages that may write, besides its own; `*`: any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["method"], Headers(scope=scope))
            except RequestError as error:
                return await JSONResponse(describe(error), error.status)(scope, receive, send)
        await self._app(scope, receive, send)

    def _check(self, method: str, headers: Headers) -> None:
        place = _split("//" + headers.get("host", ""))
        name = (place.hostname or "").rstrip(".")
        if self._hosts and name not in self._hosts and not _is_address(name):
            raise ForeignHost(f"this server is not {name!r:.100}; see allowed_hosts")
        if method not in _READS and not self._may_write(headers, place.netloc.lower()):
            raise CrossSite("a web page of another site may not write here; see cors_origins")

    def _may_write(self, headers: Headers, host: str) -> bool:
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if origin is not None and ("*" in self._origins or origin.lower() in self._origins):
            return True
        if site is not None:  # what the browser sees, whatever a proxy made of the host
            return site in ("same-origin", "none")
        if origin is None:  # no browser
            return True
        page = _split(origin.lower())
        # A proxy that passes the name on may leave out the port.
        return host in (page.netloc, page.hostname)


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # brackets that do not close
        return urlsplit("//invalid.")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
