"""The server as a process: listens, and ends without losing what it has begun."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import replace

import uvicorn

from ..aio.running import result
from ..conversations import Conversations
from ..errors import ConfigurationError
from .app import BotServer, create_app
from .bot import Bot
from .connections import MAX_HEAD, Connections
from .settings import Settings
from .sites import LOCAL, is_loopback

log = logging.getLogger("ticketlock.server")

#: Connections that the system accepts for us before we do, and those that we take at once.
_BACKLOG, _AT_ONCE = 2048, 4
#: Seconds that an idle connection stays open: longer than load balancers keep theirs, which would
#: otherwise send into one that is just being closed.
_KEEP_ALIVE = 75
#: Open files that are no connections of clients.
_OTHER_FILES = 256
#: Lists, mappings and the like that there are more of before garbage is looked for; Python: 700.
_NEW_OBJECTS = 10_000
#: A message to try the server with.
_MESSAGE = '{"sender": "anna", "message": "hi", "message_id": "1"}'
#: Seconds that clients have to take the last answers.
_LAST_ANSWERS = 5


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us: its own handling lets go of the turns that are running."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            listener.listen(_BACKLOG)  # `backlog` is also how many asyncio takes at once

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigurationError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
    # Connections inherit it. asyncio sets it only on sockets it has made itself; without it the
    # second packet of an answer waits for the client's delayed acknowledgement, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(
    conversations: Conversations, bot: Bot, settings: Settings, listener: socket.socket
) -> None:
    """Serve until SIGTERM or SIGINT; then drain and return. A second signal hurries it.

    Raises LockStoreConnectionError or TrackerStoreConnectionError where a store cannot be
    reached at the start.
    """
    app = create_app(conversations, bot, _reachable(settings, listener))
    most = min(settings.max_connections, _many_connections() - _OTHER_FILES)
    if most < settings.max_connections:
        log.warning("max_connections: %d, because of the limit of open files (ulimit -n)", most)
    connections = Connections(max(1, most), settings.head_timeout)
    async with conversations:
        await conversations.lock_store.inspect("ticketlock run", 1)
        await result(conversations.tracker_store.connect())
        _spare_garbage_collection()
        await _serve(app, listener, connections)


def _spare_garbage_collection() -> None:
    """What is there by now stays, and most of what comes goes by itself: to look for garbage in
    the one takes 50 ms each time, and one large body makes Python look for it again and again.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)


def _reachable(settings: Settings, listener: socket.socket) -> Settings:
    """The settings, by who reaches the server: this machine's browsers do, wherever it listens."""
    host = listener.getsockname()[0]
    if is_loopback(host):
        return replace(settings, allowed_hosts=(*LOCAL, *settings.allowed_hosts))
    if settings.auth_token is None and settings.jwt_secret is None:
        log.warning(
            "anyone who can reach %s can read and change all conversations: set auth_token or "
            "jwt_secret in the section server", host,
        )  # fmt: skip
    return settings


async def _serve(app: BotServer, listener: socket.socket, connections: Connections) -> None:
    stop, hurry = asyncio.Event(), asyncio.Event()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    server = _Uvicorn(
        uvicorn.Config(
            app, http=connections.protocol(), ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, h11_max_incomplete_event_size=MAX_HEAD,
            backlog=_AT_ONCE, timeout_keep_alive=_KEEP_ALIVE, timeout_graceful_shutdown=_LAST_ANSWERS,
        )
    )  # fmt: skip
    name, port = listener.getsockname()[:2]
    app.live.replicas.listens(name, port)
    app.live.replicas.start()
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    log.info("listening on %s", _url(name, port))
    url = _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name), port)
    log.info("page: %s/", url)
    log.info("try:  curl %s/webhooks/rest/webhook%s -d '%s'", url, _login(app.settings), _MESSAGE)
    await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    jobs = app.handler.jobs
    log.info("stopping: %d turns run, %d wait", jobs.running, jobs.waiting)
    await jobs.drain(app.settings.drain_timeout, hurry)
    await app.live.replicas.close()
    server.should_exit = True
    await serving
    log.info("stopped")


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _login(settings: Settings) -> str:
    """The option of curl that opens the webhooks, with the name of the secret in its place."""
    names = {"channel_token": "channel_token", "auth_token": "auth_token", "jwt_secret": "JWT"}
    given = [name for key, name in names.items() if getattr(settings, key) is not None]
    if settings.open_channels or not given:
        return ""
    return f" -H 'Authorization: Bearer <{given[0]}>'"


def _many_connections() -> int:
    """As many open files as we may have: idle connections must not shut others out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # some systems name a limit they refuse
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return sys.maxsize if soft == resource.RLIM_INFINITY else soft
