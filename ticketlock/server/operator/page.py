"""The operator's page for browsers, and its content security policy."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

#: The files of `assets` that make up the script of the page, in their order.
SCRIPTS = ("base.js", "charts.js", "tables.js", "sections.js", "dialogs.js", "main.js")


def page(request: Request) -> Response | None:
    """The page, if the request comes from a browser."""
    if "text/html" not in request.headers.get("accept", ""):
        return None
    text, policy = _page()
    return HTMLResponse(text, headers={**_HEADERS, "content-security-policy": policy})


_HEADERS = {
    "cache-control": "no-cache",
    "referrer-policy": "no-referrer",
    "vary": "accept",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


@cache
def _page() -> tuple[str, str]:
    """The page as one file, and a policy that lets it run and load only what is in it."""
    style, script = _asset("page.css"), "".join(map(_asset, SCRIPTS))
    text = _asset("page.html")
    text = text.replace("/* page.css */", style).replace("/* scripts */", script)
    return text, (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )


def _asset(name: str) -> str:
    return files("ticketlock.server.operator").joinpath("assets", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
