"""The heartbeat of a process: one thread, one connection, one batch a second.

It is a thread so that a blocked event loop does not lose its turns, and it has its own
connection so that renewals never queue behind waiters. With nothing held and nothing
waited for it sleeps and sends nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import redis
import redis.cluster
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError
from redis.retry import Retry
from redis.sentinel import Sentinel

from .grant import Grant, clock
from .incoming import Supersede
from .redis_settings import RedisSettings
from .scripts import Scripts, Timing, load

if TYPE_CHECKING:
    from .engine import Engine

log = logging.getLogger("ticketlock")
T = TypeVar("T")

#: Turns or conversations in one script call: bounds how long a call keeps the server.
BATCH = 200


class Seen(NamedTuple):
    """What a heartbeat has seen of a conversation in which we wait.

    Attributes:
        sent_at, now: a moment of `clock()` that was not after this server time (ms).
        missing: our lowest ticket neither waits nor holds.
        bell: the text of a bell that was rung for this process, or empty.
    """

    conversation_id: str
    sent_at: float
    now: int
    missing: bool
    bell: bytes


class Heartbeat:
    """Renews the process's turns, keeps its waiters alive, learns what bells failed to tell."""

    def __init__(
        self, engine: Engine, settings: RedisSettings, scripts: Scripts, timing: Timing
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._scripts = scripts
        #: Seconds between two beats: several fit into a lease and into a waiter's life.
        self._interval = min(timing.lease / 4, timing.waiter_ttl / 2.5) / 1000
        self._wake = threading.Event()
        self._stopping = False
        self._idle = True
        self._due = 0.0
        self._client: Any = None
        self._thread: threading.Thread | None = None
        self._failing = False

    # -- called on the event loop -------------------------------------------------------------

    def expect(self, seconds: float | None) -> None:
        """Beat within the interval, or after `seconds` if that is sooner."""
        if self._idle or (seconds is not None and clock() + seconds < self._due):
            due = self._interval if seconds is None else min(seconds, self._interval)
            self._due = clock() + due
            self._idle = False
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="ticketlock-heartbeat", daemon=True
                )
                self._thread.start()
            self._wake.set()

    def abandon(self) -> None:
        """End the thread and its connection, without waiting for that."""
        self._stopping = True
        self._wake.set()

    async def stop(self) -> None:
        """End the thread and its connection."""
        self.abandon()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 3.0)

    # -- the thread ---------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            self._wake.clear()
            if self._idle:
                self._wake.wait()
                continue
            if (pause := self._due - clock()) > 0:
                self._wake.wait(pause)
                continue
            self._due = clock() + self._interval
            turns, waiting = self._engine.turns(), self._engine.attended()
            if not turns and not waiting:
                self._idle = True
                # Whoever came between the look and the flag did not wake us: look again.
                if self._engine.turns() or self._engine.attended():
                    self._idle = False
                continue
            try:
                self._beat(turns, waiting)
                self._failing = False
            except Exception as error:  # noqa: BLE001  # a credential provider may raise
                # anything; the thread must outlive it, and says what it was.
                self._failed(error)
        self._disconnect()

    def _beat(self, held: list[Grant], waiting: list[tuple[str, str]]) -> None:
        lost: list[tuple[Grant, int | None]] = []
        superseded: list[tuple[Grant, Supersede]] = []
        seen: list[Seen] = []
        for batch in self._batches(held):
            # While a fence is being raised either can be the one there is.
            fences = [None if grant.raising else grant.fence for grant in batch]
            named = zip(batch, fences, strict=True)
            turns = [(grant.conversation_id, grant.member, fence) for grant, fence in named]
            asked = clock()
            rows = self._call(self._scripts.renew(turns))
            for grant, fence, (left, mode) in zip(batch, fences, rows, strict=True):
                if mode:
                    superseded.append((grant, mode.decode()))
                if left:
                    grant.extend(asked + left / 1000 - self._engine.margin)
                else:
                    lost.append((grant, fence))
        for tickets in self._batches(waiting):
            sent_at = clock()
            now, *seen_rows = self._call(self._scripts.attend(tickets))
            for (conversation_id, _), row in zip(tickets, seen_rows, strict=True):
                missing, left, bell = row
                seen.append(Seen(conversation_id, sent_at, now, bool(missing), bell))
                # A holder who stops renewing is succeeded the moment its lease ends.
                self._due = min(self._due, sent_at + left / 1000 + 0.002)
        try:
            self._engine.loop.call_soon_threadsafe(self._engine.beaten, lost, seen, superseded)
        except RuntimeError:  # the loop has been closed without closing the store
            self._stopping = True

    def _batches(self, items: Sequence[T]) -> Iterator[Sequence[T]]:
        # In a Cluster each conversation has its own slot, and so its own call.
        size = 1 if self._settings.deployment_mode == "cluster" else BATCH
        for start in range(0, len(items), size):
            yield items[start : start + size]

    def _call(self, words: tuple[Any, ...]) -> Any:
        if self._client is None:
            self._client = self._connect()
        try:
            return self._client.execute_command(*words)
        except NoScriptError:
            for name in ("renew", "attend"):
                self._client.script_load(load(name).source)
            return self._client.execute_command(*words)

    def _connect(self) -> Any:
        kwargs = self._settings.connection_kwargs()
        # Shorter than the lease: a hung connection is given up while there is still time.
        kwargs["socket_timeout"] = min(kwargs["socket_timeout"], self._interval)
        kwargs["socket_connect_timeout"] = kwargs["socket_timeout"]
        if self._settings.deployment_mode == "sentinel":
            for key in ("host", "port", "socket_keepalive"):
                kwargs.pop(key)
            timeouts = {"socket_timeout": kwargs["socket_timeout"], "retry": Retry(NoBackoff(), 0)}
            make: Any = Sentinel  # redis-py gives it no types
            sentinel = make(list(self._settings.endpoints), sentinel_kwargs=timeouts)
            service, ssl = self._settings.sentinel_service, self._settings.use_ssl
            return sentinel.master_for(service, ssl=ssl, **kwargs)
        if self._settings.deployment_mode == "cluster":
            for key in ("host", "port", "db", "socket_keepalive", "retry"):
                kwargs.pop(key)
            seeds = self._settings.endpoints or ((self._settings.host, self._settings.port),)
            node: Any = redis.cluster.ClusterNode  # redis-py gives it no types
            return redis.RedisCluster(
                startup_nodes=[node(*seed) for seed in seeds], ssl=self._settings.use_ssl, **kwargs
            )
        if self._settings.unix_socket_path:
            kwargs["unix_socket_path"] = kwargs.pop("path")
        return redis.Redis(ssl=self._settings.use_ssl, single_connection_client=True, **kwargs)

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _failed(self, error: Exception) -> None:
        """Try again soon, on a new connection; the turns' deadlines decide in the end."""
        if not self._failing:
            log.warning("heartbeat to %s failed, trying again: %s", self._settings.address, error)
        self._failing = True
        self._disconnect()
        self._due = clock() + self._interval / 5
