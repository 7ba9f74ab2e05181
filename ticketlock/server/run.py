"""The server as a process: listens, and drains before it ends."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import os
import resource
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import uvicorn

from ..aio.running import result
from ..aio.signals import ending
from ..conversations import Conversations
from ..deliveries.settings import CallbackSettings
from ..errors import ConfigurationError
from ..inbox.inbox import NOT_KEPT
from .app import BotServer, create_app
from .bot import Bot
from .channels.channel import Channel
from .connections import MAX_HEAD, Connections, Guarded
from .engines import parser
from .settings import Settings
from .sites import LOCAL, is_loopback

log = logging.getLogger("ticketlock.server")

#: Connections that wait in the system's queue, and that asyncio accepts at once.
_BACKLOG, _AT_ONCE = 2048, 4
#: Seconds that an idle connection stays open: longer than in load balancers, which would otherwise
#: use a connection that is just being closed.
_KEEP_ALIVE = 75
#: Open files besides connections of clients.
_OTHER_FILES = 256
#: New containers before the garbage collector runs; Python's default is 700.
_NEW_OBJECTS = 10_000
#: A message for the example in the log.
_MESSAGE = '{"sender": "anna", "message": "hi", "message_id": "1"}'
#: What to change if it cannot listen.
_REMEDIES = {
    errno.EADDRINUSE: ": end what listens there, or choose another --port",
    errno.EADDRNOTAVAIL: ": --host is an address of this machine; 0.0.0.0 means all of them",
    errno.EACCES: ": ports below 1024 need the right of an administrator",
}
#: Seconds for clients to read the last answers.
_LAST_ANSWERS = 5


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handling, which would abandon running turns."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # `backlog` also sets how many asyncio accepts at once

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but connections that do not read their answers are aborted before it
        cancels their tasks, which would log each one's traceback.
        """
        abort = asyncio.get_running_loop().call_later(_LAST_ANSWERS, self._abort)
        try:
            await super().shutdown(sockets)
        finally:
            abort.cancel()

    def _abort(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Guarded):
                connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {_why(error)}") from error
    # Connections inherit it. asyncio sets it only on its own sockets; without it the second packet
    # of an answer waits for the client's delayed acknowledgement, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _why(error: Exception) -> str:
    """Why it cannot listen, and what to change."""
    number: int | None = getattr(error, "errno", None)
    if number is None:
        return str(error)
    if number in (socket.EAI_NONAME, socket.EAI_NODATA, socket.EAI_AGAIN):
        return "the host is not known: --host is an address of this machine"
    return os.strerror(number) + _REMEDIES.get(number, "")  # its own text repeats the address


async def serve(
    conversations: Conversations,
    bot: Bot,
    settings: Settings,
    listener: socket.socket | None,
    channels: Sequence[Channel] = (),
    callback: CallbackSettings | None = None,
    *,
    webhooks: bool = True,
    turns: bool = True,
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and return; a second one cancels the turns.

    Args:
        listener: None: only messages that other processes have accepted are handled.
        webhooks, turns: whether messages are accepted, and handled; see `create_app`.

    Raises LockStoreConnectionError or TrackerStoreConnectionError if a store cannot be reached
    at the start.
    """
    settings = _reachable(settings, listener)
    app = create_app(
        conversations, bot, settings, channels, callback, webhooks=webhooks, turns=turns
    )
    async with conversations:
        await conversations.lock_store.inspect("ticketlock run", 1)
        await result(conversations.tracker_store.connect())
        if await conversations.inbox.durability() == "memory":
            log.warning("the Redis of the locks %s", NOT_KEPT)
        app.serve()
        _spare_garbage_collection()
        await _until_stopped(app, listener, webhooks)


def _spare_garbage_collection() -> None:
    """Make garbage collections rare: each one of the objects at the start takes 50 ms, and one
    large body would cause several.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _reachable(settings: Settings, listener: socket.socket | None) -> Settings:
    """The settings, with `LOCAL` as allowed hosts if only this machine reaches the server."""
    if listener is None:
        return settings
    host = listener.getsockname()[0]
    if is_loopback(host):
        return replace(settings, allowed_hosts=(*LOCAL, *settings.allowed_hosts))
    if settings.auth_token is None and settings.jwt_secret is None:
        log.warning(
            "anyone who can reach %s can read and change all conversations: set auth_token or "
            "jwt_secret in the section server", host,
        )  # fmt: skip
    return settings


def _server(app: BotServer) -> _Uvicorn:
    settings = app.settings
    limit = max(1, min(settings.max_connections, _max_files() - _OTHER_FILES))
    if limit < settings.max_connections:
        log.warning("max_connections: %d, because of the limit of open files (ulimit -n)", limit)
    connections = Connections(limit, settings.head_timeout)
    http: Any = connections.protocol(*parser(settings.http))  # uvicorn calls it as it calls a class
    return _Uvicorn(
        uvicorn.Config(
            app, http=http, ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, h11_max_incomplete_event_size=MAX_HEAD,
            backlog=_AT_ONCE, timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=_LAST_ANSWERS + 1,
        )
    )  # fmt: skip


async def _until_stopped(app: BotServer, listener: socket.socket | None, webhooks: bool) -> None:
    """Listen, if there is a listener, until a signal comes; then drain."""
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in ending():
        loop.add_signal_handler(number, signalled)
    tasks: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
    server = None
    if listener is not None:
        name, port = listener.getsockname()[:2]
        app.live.replicas.listens(name, port)
        server = _server(app)
        tasks.append(asyncio.create_task(server.serve(sockets=[listener])))
        _announce(app.settings, name, port, webhooks=webhooks)
    app.live.replicas.start()
    if not webhooks:
        log.info("handling messages that other processes accept")
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    jobs = app.handler.jobs
    log.info("stopping: %d turns run, %d wait", jobs.running, jobs.waiting)
    await app.handler.drain(app.settings.drain_timeout, hurry)
    await app.live.replicas.close()
    stop.set()
    if server is not None:
        server.should_exit = True
    await asyncio.gather(*tasks)
    log.info("stopped")


def _announce(settings: Settings, name: str, port: int, *, webhooks: bool) -> None:
    log.info("listening on %s", _url(name, port))
    url = _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name), port)
    log.info("page: %s/", url)
    if webhooks:
        log.info("try:  curl %s/webhooks/rest/webhook%s -d '%s'", url, _login(settings), _MESSAGE)


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _login(settings: Settings) -> str:
    """The option of curl for the webhooks, with the name of the secret as a placeholder."""
    names = {"channel_token": "channel_token", "auth_token": "auth_token", "jwt_secret": "JWT"}
    given = [name for key, name in names.items() if getattr(settings, key) is not None]
    if settings.open_channels or not given:
        return ""
    return f" -H 'Authorization: Bearer <{given[0]}>'"


def _max_files() -> int:
    """Raise the limit of open files to its maximum, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems reject their own limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
