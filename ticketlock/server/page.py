"""The operator's page, for browsers, and the policy that keeps it to itself."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response


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
    """The page, and the policy that lets nothing run or load but what is in it."""
    text = files("ticketlock.server").joinpath("page.html").read_text(encoding="utf-8")
    (style,), (script,) = (_inline(text, tag) for tag in ("style", "script"))
    return text, (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _inline(text: str, tag: str) -> Iterator[str]:
    for body in re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL):
        yield "sha256-" + base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
