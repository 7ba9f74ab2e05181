"""`Threads`: threads for blocking drivers, which can still be used at the end of the interpreter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Threads(ThreadPoolExecutor):
    """At the end of the interpreter Python ends the threads of all executors before it calls what is
    registered by `atexit`, such as the closing of stores. From then on the event loop makes the calls.
    """

    _ended = False

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._ended = True
        super().shutdown(wait, cancel_futures=cancel_futures)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError as error:
            # Not where a thread cannot be started: then the call is queued already.
            if self._ended or "cannot schedule new futures" not in str(error):
                raise
        made: Future[Any] = Future()

        def call() -> None:
            if made.set_running_or_notify_cancel():
                try:
                    made.set_result(fn(*args, **kwargs))
                except BaseException as error:  # noqa: BLE001  # for who awaits it
                    made.set_exception(error)

        # Not at once: the caller may have a lock that the call needs.
        asyncio.get_running_loop().call_soon(call)
        return made
