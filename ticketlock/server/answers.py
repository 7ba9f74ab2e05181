"""Answers in JSON, of whatever a store has given."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from ..plain_json import plain


def answer(content: Any) -> Response:
    """The content as JSON; what JSON has not, as a custom store may give it, is made plain.

    It is rendered here: make the answer to a turn inside it, then nothing is stored that
    cannot be answered.
    """
    try:
        return JSONResponse(content)
    except (TypeError, ValueError, RecursionError):
        return JSONResponse(plain(content))
