"""The event loop and the parser: the fast ones where they are there, without a word where not."""

from __future__ import annotations

import asyncio
import sys
import warnings

import pytest
import uvloop
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ticketlock import ConfigurationError
from ticketlock.server import Settings
from ticketlock.server.engines import parser, runner


def test_the_fast_ones_are_the_default() -> None:
    """Both are in the extra, where they have wheels."""
    settings = Settings()
    assert runner(settings.loop) is uvloop.run
    assert parser(settings.http)[-1] is HttpToolsProtocol


def test_the_others_can_be_chosen() -> None:
    settings = Settings.from_section({"http": "h11", "loop": "asyncio"})
    assert runner(settings.loop) is asyncio.run
    assert parser(settings.http) == (H11Protocol,)
    with pytest.raises(ConfigurationError, match=r"server.*loop.*zuvloop"):
        Settings.from_section({"loop": "zuvloop"})


def test_where_they_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio and h11 serve, without a warning; one that was asked for is an error."""
    for name in ("uvloop", "httptools"):
        monkeypatch.setitem(sys.modules, name, None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert runner() is asyncio.run
        assert parser() == (H11Protocol,)
    with pytest.raises(ConfigurationError, match=r"server, loop: uvloop cannot be imported"):
        runner("uvloop")
    with pytest.raises(ConfigurationError, match=r"server, http: httptools cannot be imported"):
        parser("httptools")
