"""Checks of the Host and the Origin of requests, against attacks through browsers.

A browser lets any web page send a POST to any server that it can reach, also on this machine: the
page cannot read the answer, but the message is stored. And a page whose host name is made to
point to this machine (DNS rebinding) has the same origin for the browser, and can read all.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .errors import RequestError, describe

#: Host names of a server that only this machine reaches, without `allowed_hosts`.
LOCAL = ("localhost",)

_READS = ("GET", "HEAD", "OPTIONS")
#: Headers that tell which page has sent a request; browsers set them.
_FROM_PAGES = (b"sec-fetch-site", b"origin")


class ForeignHost(RequestError):
    """The request is for another host."""

    status, reason = 421, "ForeignHost"


class CrossSite(RequestError):
    """A web page of another site tried to write."""

    status, reason = 403, "CrossSite"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server at this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Ambiguous(RequestError):
    """A proxy may read the request in another way: where it ends, or which host it is for."""

    status, reason = 400, "BadRequest"


class Sites:
    """Middleware that rejects other hosts, writes of pages of other sites, and ambiguous requests.

    Args:
        hosts: accepted host names; empty: any. IP addresses are always accepted, because DNS
            rebinding does not work with them.
        origins: origins of pages that may write, besides the server's own; `*`: any.
    """

    def __init__(self, app: ASGIApp, hosts: Sequence[str], origins: Sequence[str]) -> None:
        self._app = app
        self._hosts = {host.lower() for host in hosts}
        self._origins = {origin.lower() for origin in origins}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                _check_form(scope)
                self._check(
                    scope["method"], dict(reversed(scope["headers"]))
                )  # the first of a name counts
            except RequestError as error:
                # What comes behind an ambiguous one may be a part of it.
                close = {"connection": "close"} if isinstance(error, Ambiguous) else None
                answer = JSONResponse(describe(error), error.status, close)
                return await answer(scope, receive, send)
        await self._app(scope, receive, send)

    def _check(self, method: str, headers: Mapping[bytes, bytes]) -> None:
        place = _split("//" + headers.get(b"host", b"").decode("latin-1"))
        name = (place.hostname or "").rstrip(".")
        if self._hosts and name not in self._hosts and not _is_address(name):
            raise ForeignHost(f"this server is not {name!r:.100}; see allowed_hosts")
        if method not in _READS and not self._may_write(headers, place.netloc.lower()):
            raise CrossSite("a web page of another site may not write here; see cors_origins")

    def _may_write(self, headers: Mapping[bytes, bytes], host: str) -> bool:
        if not headers.keys() & _FROM_PAGES:  # not from a browser
            return True
        site, origin = (
            headers[name].decode("latin-1") if name in headers else None for name in _FROM_PAGES
        )
        if origin is not None and ("*" in self._origins or origin.lower() in self._origins):
            return True
        if site is not None:  # set by the browser, independent of a proxy's Host
            return site in ("same-origin", "none")
        assert origin is not None  # one of both is there
        page = _split(origin.lower())
        # A proxy may pass on the host without the port.
        return host in (page.netloc, page.hostname)


def _check_form(scope: Scope) -> None:
    """Refuse what parsers read in different ways: h11 the length, httptools the host."""
    names = [name for name, _ in scope["headers"]]
    if b"transfer-encoding" in names and b"content-length" in names:
        raise Ambiguous("a request has either Content-Length or Transfer-Encoding")
    hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and scope.get("http_version") in ("0.9", "1.1")):
        raise Ambiguous("a request has one Host")


def _split(text: str) -> SplitResult:
    try:
        return urlsplit(text)
    except ValueError:  # unbalanced brackets
        return urlsplit("//invalid.")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
