"""Values of a request's query."""

from __future__ import annotations

from starlette.requests import Request

from .errors import BadRequest


def flag(request: Request, name: str) -> bool:
    """A switch of the query, by default false. Raises BadRequest."""
    if not request.scope["query_string"]:
        return False
    word = request.query_params.get(name, "false").lower()
    if word not in ("true", "false", "1", "0"):
        raise BadRequest(f"{name} is neither true nor false")
    return word in ("true", "1")


def seconds(request: Request, name: str, most: float) -> float:
    """A number of seconds in the query, by default 0. Raises BadRequest."""
    text = request.query_params.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= most:
        raise BadRequest(f"{name} is not a number of seconds from 0 to {most:g}")
    return value
