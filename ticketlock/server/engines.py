"""The event loop and the HTTP parser of the server: the fast ones, where they are installed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from importlib import import_module
from typing import Any, Literal

from ..errors import ConfigurationError

#: The names are those of uvicorn; `auto`: the fast one, where it is installed.
Loop = Literal["auto", "asyncio", "uvloop"]
Http = Literal["auto", "h11", "httptools"]


def runner(loop: Loop = "auto") -> Callable[[Coroutine[Any, Any, None]], None]:
    """What runs the server, as `asyncio.run` does. Raises ConfigurationError."""
    if loop != "asyncio" and _found("uvloop", needed=loop == "uvloop", key="loop"):
        run: Callable[[Coroutine[Any, Any, None]], None] = import_module("uvloop").run
        return run
    return asyncio.run


def parser(http: Http = "auto") -> tuple[type[asyncio.Protocol], ...]:
    """uvicorn's protocol with the parser, and before it what bounds it. Raises ConfigurationError."""
    if http != "h11" and _found("httptools", needed=http == "httptools", key="http"):
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

        from .httptools_limits import HttptoolsLimits

        return HttptoolsLimits, HttpToolsProtocol
    from uvicorn.protocols.http.h11_impl import H11Protocol

    return (H11Protocol,)


def _found(package: str, *, needed: bool, key: str) -> bool:
    """Whether a package can be imported: it has no wheels for every platform."""
    try:
        import_module(package)
    except ImportError as error:
        if needed:
            raise ConfigurationError(
                f"server, {key}: {package} cannot be imported: {error}; install it, or leave {key} out"
            ) from error
        return False
    return True
