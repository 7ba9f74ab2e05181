"""`create_app`: the ASGI application, for `ticketlock run` or to mount in another one."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Sequence
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..conversations import Conversations
from ..deliveries.callback import Callback
from ..deliveries.settings import CallbackSettings
from ..errors import ConfigurationError, TicketLockError
from . import conversations_api, domain_route, health, metrics, openapi, outcome_routes, rest
from .auth import Auth
from .bot import Bot, check_bot, echo
from .callback import CALLBACK
from .callback import routes as callback_routes
from .channels import CHANNELS
from .channels.channel import Channel
from .channels.destination import ChannelDestination
from .channels.routes import reserved
from .channels.routes import routes as channel_routes
from .errors import (
    BadRequest,
    BodiesOverloaded,
    TooLarge,
    classify,
    describe,
    failure,
    headers,
    was_logged,
)
from .handling import Handler
from .intake import Intake
from .limits import Lingering
from .operator import live
from .operator import routes as live_routes
from .outcome_routes import OutcomeRoutes
from .outcome_tokens import OutcomeTokens
from .settings import Settings
from .sites import Sites


class _ConversationId(Convertor[str]):
    """A conversation id in a path: any characters, also slashes and line ends."""

    regex = r"(?s:.+)"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("conversation", _ConversationId())


class BotServer(Starlette):
    """The application.

    Attributes:
        handler: handles messages, also without HTTP, and counts them.
        live: the data and actions of the operator's page.
        settings: the settings.
    """

    handler: Handler
    live: live.Live
    settings: Settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Starlette raises unexpected errors once more behind their answer, for the server's log."""
        try:
            await super().__call__(scope, receive, send)
        except Exception as error:
            if not was_logged(error):
                raise

    def serve(self) -> None:
        """Handle messages that other replicas have accepted, before the first request comes too.

        Call it in the event loop of the server if you mount the application.
        """
        self.handler.serve()

    async def drain(self) -> None:
        """Accept no more messages, and wait for running turns; see `Settings.drain_timeout`.

        Call it before the process ends if you mount the application.
        """
        await self.handler.drain(self.settings.drain_timeout)
        await self.live.replicas.close()


def create_app(
    conversations: Conversations,
    bot: Bot = echo,
    settings: Settings | None = None,
    channels: Sequence[Channel] = (),
    callback: CallbackSettings | None = None,
    *,
    webhooks: bool = True,
    turns: bool = True,
) -> BotServer:
    """The bot server as an ASGI application.

    The caller opens and closes `conversations`.

    Args:
        webhooks: whether messages are accepted, and histories shown and changed; False: only health,
            metrics and the operator's page are there, beside the turns of accepted messages.
        turns: whether accepted messages are handled here; False: they are left to workers.
        channels: from `create_channels`; each has its route `/webhooks/<name>/webhook`.
        callback: where the replies to messages of `/webhooks/callback/webhook` are posted to.

    Raises ConfigurationError if `bot` is not a bot, the JWT key is invalid, or messages would be
    left to other processes (`webhooks`, `turns`) by a lock store, or with a tracker store, that is
    in the memory of this one.
    """
    if not (webhooks and turns) and not conversations.inbox.durable:
        raise ConfigurationError(
            "lock_store: workers need type: concurrent_redis; with other lock stores a message stays "
            "in the process that accepted it"
        )
    if not (webhooks and turns) and not conversations.tracker_store.shared:
        raise ConfigurationError(
            "tracker_store: workers need one that all processes read, such as type: sql; in memory "
            "each process has histories of its own"
        )
    settings = settings or Settings()
    handler, auth = Handler(conversations, check_bot(bot), settings), Auth(settings)
    handler.turns = turns
    try:
        handler.check_policy(settings.double_texting)
    except BadRequest as error:
        raise ConfigurationError(f"server, {error}") from None
    handler.destinations.update({one.name: ChannelDestination(one) for one in channels})
    handler.serving.windows.update({one.name: one.window for one in channels})
    if callback is not None:
        handler.destinations[CALLBACK] = Callback(callback)
    view = live.Live(handler)
    view.replicas.bot = _name(bot) if turns else ""  # it calls none
    outcomes = OutcomeRoutes(handler, OutcomeTokens(conversations, settings))
    exposed = metrics.observe(conversations)
    accepting = [
        *rest.routes(handler, auth, outcomes, reserved(channels)),
        *domain_route.routes(conversations.domain, auth),
        *outcome_routes.routes(outcomes),
        *channel_routes(channels, handler, settings),
        *(
            callback_routes(handler, auth, outcomes, reserved(channels))
            if callback is not None
            else ()
        ),
        *conversations_api.routes(view, auth),
        *openapi.routes(settings, channels, callback=callback is not None),
    ]
    app = BotServer(
        routes=[
            *(accepting if webhooks else ()),  # most requests are messages: they are found first
            *health.routes(handler, auth, _name(bot)),
            *live_routes.routes(view, auth),
            *metrics.routes(exposed, auth),
        ],
        exception_handlers={
            TicketLockError: _failed,
            HTTPException: _refused,
            Exception: _failed,
        },
    )
    app.router.redirect_slashes = False  # a redirect drops the body of a POST
    app.handler, app.settings, app.live = handler, settings, view
    app.add_middleware(_Answers, live=view)
    app.add_middleware(Intake, settings=settings)
    for observer in conversations.lock_store.observers.each:
        if observer.asgi is not None:
            app.add_middleware(observer.asgi)
    app.add_middleware(Sites, hosts=settings.allowed_hosts, origins=settings.cors_origins)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key"],
            expose_headers=["Retry-After"],
        )
    return app


class _Answers:
    """Counts refusals and failures, and starts the reports of this process. Closes connections while
    the server drains, so that clients go to another replica.
    """

    def __init__(self, app: ASGIApp, live: live.Live) -> None:
        self._app = app
        self._replicas, self._handler = live.replicas, live.handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        self._replicas.start()
        counts = scope["method"] == "POST" and scope["path"].endswith("/webhook")

        def answered(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                if counts:
                    self._handler.counters.answered(message["status"])
                if self._handler.jobs.draining:
                    kept = [pair for pair in message["headers"] if pair[0] != b"connection"]
                    message["headers"] = [*kept, (b"connection", b"close")]
            return send(message)

        return await self._app(scope, receive, answered)


#: Characters of a path that an error shows.
_SHOWN = 200
#: The webhook of a channel, which is there if the file has its section.
_CHANNEL = re.compile(rf"/webhooks/({'|'.join(CHANNELS)})/webhook$")


def _name(bot: Any) -> str:
    module, name = getattr(bot, "__module__", None), getattr(bot, "__qualname__", None)
    return f"{module}:{name or type(bot).__qualname__}"


async def _failed(request: Request, error: Exception) -> Response:
    kind = Lingering if isinstance(error, (TooLarge, BodiesOverloaded)) else JSONResponse
    return kind(describe(error), classify(error)[0], headers(error))


async def _refused(request: Request, error: Exception) -> Response:
    """The path or the method does not exist."""
    assert isinstance(error, HTTPException)  # registered for it
    reason = HTTPStatus(error.status_code).phrase.replace(" ", "")
    path = request.scope["path"]
    what = f"{request.method} {path[:_SHOWN]}: {error.detail}"
    if error.status_code == HTTPStatus.NOT_FOUND and (channel := _CHANNEL.search(path)):
        what += f"; the section channels of this server has no {channel[1]}"
    return JSONResponse(failure(error.status_code, reason, what), error.status_code, error.headers)
