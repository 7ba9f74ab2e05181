"""The replies of turns, until they are kept for duplicates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ..grant import Grant
from .scripts import Scripts


class Sending(Protocol):
    """What is asked of the engine."""

    scripts: Scripts

    def post(self, args: tuple[Any, ...]) -> asyncio.Future[Any] | None: ...


class _Unkept(NamedTuple):
    """Replies of a turn by message id, and for how many seconds they are kept."""

    window: float
    replies: Mapping[str, str]


class Replies:
    """Replies that no server has confirmed yet, by the requests of their turns.

    They must not come behind the release: a duplicate would be handled again, and what the turn has
    carried would have turns of its own. The order of a connection does not ensure that, where the
    server has lost a script. So a release brings along what is not confirmed by then, in one call.
    """

    def __init__(self, engine: Sending) -> None:
        self._engine = engine
        self._unkept: dict[int, _Unkept] = {}

    def keep(self, grant: Grant, replies: Mapping[str, str], window: float) -> None:
        """Keep replies of a turn for some seconds; never fails, never waits."""
        engine, request = self._engine, grant.request
        before = self._unkept.get(request, _Unkept(0.0, {}))
        unkept = _Unkept(max(window, before.window), {**before.replies, **replies})
        args = engine.scripts.answer(grant.conversation_id, grant.member, window, replies)
        if (sent := engine.post(args)) is None:
            return

        def kept(_: object) -> None:
            if self._unkept.get(request) is unkept:
                del self._unkept[request]

        self._unkept[request] = unkept
        sent.add_done_callback(kept)

    def with_release(self, grant: Grant) -> tuple[Any, ...] | None:
        """The call that keeps them and ends the turn; None: there are none."""
        unkept = self._unkept.pop(grant.request, None)
        if unkept is None:
            return None
        return self._engine.scripts.answer(
            grant.conversation_id, grant.member, *unkept, fence=grant.fence
        )
