"""The documented endpoints of conversations.

The one that needs a model (`predict`) answers 409, as documented for a server without one.
Reading a conversation never creates it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from ..aio.running import result
from ..aio.slices import sliced
from ..errors import ActionRejected, TicketLockError, UnknownAction
from ..events import starts_session as is_session_start
from ..events.codec import EncodedEvent, encoding
from ..events.event import Event
from ..events.fields import check_fields, check_parse_data
from ..tracker.tracker import EventVerbosity, Tracker
from ..turn import Turn
from .answers import answer, tracker_answer
from .auth import Auth
from .bot import EXTERNAL, LATEST, Message
from .errors import BadRequest, Conflict, NotFound, TooMuch
from .limits import check_message, check_message_id, field, path_id, read_json, read_object
from .operator.audit import requested
from .operator.live import Live
from .query import flag
from .replies import rest_objects
from .settings import Settings
from .story import stories

log = logging.getLogger("ticketlock.server")

_Endpoint = Callable[[Request], Awaitable[Response]]


class ConversationsApi:
    """The endpoints."""

    def __init__(self, live: Live, auth: Auth) -> None:
        handler = live.handler
        self._live = live
        self._handler = handler
        self._auth = auth
        self._trackers = handler.conversations.tracker_store
        self._locks = handler.conversations.lock_store

    def _sender(self, request: Request) -> str:
        sender_id = path_id(request)
        self._auth.api(request, sender_id)
        return sender_id

    async def tracker(self, request: Request) -> Response:
        """GET tracker: the state now, or at the time `until`."""
        sender_id, verbosity, until = self._sender(request), _verbosity(request), _until(request)
        return await tracker_answer(await self._read(sender_id, verbosity, until), verbosity)

    async def _read(
        self, sender_id: str, verbosity: EventVerbosity, until: float | None
    ) -> Tracker:
        store = self._trackers
        full = verbosity is EventVerbosity.ALL or until is not None
        read = store.retrieve_full_tracker if full else store.retrieve
        tracker = await result(read(sender_id)) or store.init_tracker(sender_id)
        return tracker if until is None else _as_of(tracker, until)

    async def append_events(self, request: Request) -> Response:
        """POST tracker/events: append one event or a list; schedule reminders, if that is asked for."""
        sender_id, verbosity = self._sender(request), _verbosity(request)
        effects = flag(request, "execute_side_effects")
        events = await _events(request, self._handler.settings)

        async def body(turn: Turn) -> Response:
            if effects:
                to = self._schedule(turn, request)
                if to in self._handler.destinations and any(e["event"] == "bot" for e in events):
                    raise BadRequest(
                        f"execute_side_effects: events of the bot are not sent over {to} by this "
                        "request: leave them out, and use trigger_intent to have the bot say it"
                    )
            if not is_session_start(events[0]):
                self._handler.sessions.before_events(turn)
            await sliced(map(turn.add, map(_made, events)))
            return await tracker_answer(turn.tracker, verbosity)

        return await self._handler.in_turn(sender_id, body, "POST tracker/events")

    def _schedule(self, turn: Turn, request: Request) -> str:
        """Schedule the reminders of a turn; returns the channel to which their replies go."""
        to = request.query_params.get("output_channel", "rest")
        if to == LATEST:
            to = turn.tracker.latest_input_channel or "rest"
        self._handler.serve()  # one may be due before the first message
        self._handler.reminders.follow(turn, to)
        return to

    async def replace_events(self, request: Request) -> Response:
        """PUT tracker/events: replace the history by the list."""
        sender_id, verbosity = self._sender(request), _verbosity(request)
        events = await _events(request, self._handler.settings)

        async def body(turn: Turn) -> Response:
            tracker = self._trackers.init_tracker(sender_id)
            await sliced(map(tracker.update, map(_made, events)))
            tracker.origin = turn.tracker.origin  # it is written under the turn's fence
            made = await tracker_answer(tracker, verbosity)
            await result(self._trackers.update(tracker))
            return made

        return await self._handler.in_turn(sender_id, body, "PUT tracker/events")

    async def story(self, request: Request) -> Response:
        """GET story: the latest session as YAML; all of them with `all_sessions`."""
        sender_id, until = self._sender(request), _until(request)
        every = flag(request, "all_sessions")
        full = every or until is not None
        read = self._trackers.retrieve_full_tracker if full else self._trackers.retrieve
        tracker = await result(read(sender_id))
        if tracker is None:
            raise NotFound(f"there is no conversation {sender_id!r}")
        if until is not None:
            tracker = _as_of(tracker, until)
        sessions = tracker.sessions() if every else [tracker.latest_session()]
        return PlainTextResponse(await stories(sender_id, sessions), media_type="text/yaml")

    async def add_message(self, request: Request) -> Response:
        """POST messages: store a message of the user without calling the bot."""
        sender_id, verbosity = self._sender(request), _verbosity(request)
        body = await read_object(request, self._handler.settings)
        if body.get("sender") != "user":
            raise BadRequest('sender is not "user"; other events go to tracker/events')
        if (text := field(body, "text", str, "text")) is None:
            raise BadRequest("text is missing")
        parsed = field(body, "parse_data", dict, "an object", {})
        check_parse_data(parsed)
        message = check_message(Message(text, sender_id, parse_data=parsed), self._handler.settings)

        async def add(turn: Turn) -> Response:
            # It may take reminders: then their jobs go.
            self._handler.reminders.follow(turn, message.input_channel)
            self._handler.sessions.add(turn, [message])
            return await tracker_answer(turn.tracker, verbosity)

        return await self._handler.in_turn(sender_id, add, "POST messages")

    async def trigger_intent(self, request: Request) -> Response:
        """POST trigger_intent: call the bot for an intent, without a message of the user."""
        sender_id, verbosity = self._sender(request), _verbosity(request)
        body = await read_object(request, self._handler.settings)
        if not (name := field(body, "name", str, "text")):
            raise BadRequest("name is missing: the intent to trigger")
        message = Message(
            EXTERNAL + name,
            sender_id,
            **_named(request, body),
            input_channel=request.query_params.get("output_channel", "rest"),
            metadata={"is_external": True},
            parse_data={"intent": {"name": name}, "entities": _entities(body.get("entities"))},
        )
        checked = check_message(message, self._handler.settings)
        messages, tracker = await self._handler.handle_and_show(checked)
        return await self._answered(sender_id, verbosity, messages, tracker)

    async def execute(self, request: Request) -> Response:
        """POST execute: run a custom action in a turn of the conversation."""
        sender_id, verbosity = self._sender(request), _verbosity(request)
        if self._handler.conversations.actions is None:
            raise Conflict("no action server: the section action_endpoint names one")
        body = await read_object(request, self._handler.settings)
        if not (name := field(body, "name", str, "text")):
            raise BadRequest("name is missing: the action to run")
        policy = field(body, "policy", str, "text")
        confidence = field(body, "confidence", (int, float), "a number")
        if await result(self._trackers.retrieve(sender_id)) is None:
            raise NotFound(f"there is no conversation {sender_id!r}")

        async def run(turn: Turn) -> tuple[list[dict[str, Any]], Tracker]:
            self._schedule(turn, request)
            self._handler.sessions.before_events(turn)
            try:
                added = await turn.run_action(name, policy=policy, confidence=confidence)
            except ActionRejected:  # the tracker says so
                added = []
            except UnknownAction as error:
                raise NotFound(f"the action server has no action {name!r:.80}") from error
            return [
                reply for event in added for reply in rest_objects(event, sender_id)
            ], turn.tracker

        messages, tracker = await self._handler.in_turn(sender_id, run, "POST execute")
        return await self._answered(sender_id, verbosity, messages, tracker)

    async def _answered(
        self,
        sender_id: str,
        verbosity: EventVerbosity,
        messages: list[dict[str, Any]],
        tracker: Tracker | None,
    ) -> Response:
        """The answer after a turn; `tracker` is the latest session, None if another turn has handled it."""
        if tracker is None or verbosity is EventVerbosity.ALL:
            try:
                tracker = await self._read(sender_id, verbosity, None)
            except TicketLockError as error:
                # It is stored; after an error the client would send it again.
                log.warning("the answer has only some of the events: %s", error)
        if tracker is None:
            return answer({"tracker": None, "messages": messages})
        return await tracker_answer(tracker, verbosity, messages)

    async def needs_model(self, request: Request) -> Response:
        """POST predict: not possible with a bot, because it needs a model."""
        self._sender(request)
        raise Conflict(
            "no model is loaded: this server runs a bot; trigger_intent and the webhooks reach it"
        )

    async def lock(self, request: Request) -> Response:
        """GET lock: the holder and the queue of the conversation. Not in the documented API."""
        sender_id = self._sender(request)
        return JSONResponse(asdict(await self._locks.inspect(sender_id)))

    async def break_lock(self, request: Request) -> Response:
        """DELETE lock: break the current turn; it needs the admin token."""
        self._auth.admin(request)
        sender_id, fence = path_id(request), request.query_params.get("fence")
        if fence is not None and not (fence.isascii() and fence.isdecimal() and len(fence) < 20):
            raise BadRequest("fence is not a whole number")
        record = requested("break", "api", request.query_params.get("why", ""), request)
        made = await self._live.end(sender_id, int(fence) if fence else None, record)
        if not made["broken"]:
            raise NotFound(
                f"no turn holds conversation {sender_id!r}" + " with that fence" * bool(fence)
            )
        return JSONResponse({"broken": True})


def routes(live: Live, auth: Auth) -> list[Route]:
    api = ConversationsApi(live, auth)
    table: dict[str, dict[str, _Endpoint]] = {
        "tracker": {"GET": api.tracker},
        "tracker/events": {"POST": api.append_events, "PUT": api.replace_events},
        "story": {"GET": api.story},
        "messages": {"POST": api.add_message},
        "trigger_intent": {"POST": api.trigger_intent},
        "execute": {"POST": api.execute},
        "predict": {"POST": api.needs_model},
        "lock": {"GET": api.lock, "DELETE": api.break_lock},
    }
    base = "/conversations/{conversation_id:conversation}/"
    return [Route(base + name, _by_method(e), methods=list(e)) for name, e in table.items()]


def _by_method(endpoints: dict[str, _Endpoint]) -> _Endpoint:
    async def endpoint(request: Request) -> Response:
        return await endpoints["GET" if request.method == "HEAD" else request.method](request)

    return endpoint


def _verbosity(request: Request) -> EventVerbosity:
    name = request.query_params.get("include_events", "AFTER_RESTART")
    try:
        return EventVerbosity[name]
    except KeyError:
        known = ", ".join(EventVerbosity.__members__)
        raise BadRequest(f"include_events is not one of {known}") from None


def _until(request: Request) -> float | None:
    text = request.query_params.get("until")
    if text is None:
        return None
    try:
        until = float(text)
    except ValueError:
        until = float("nan")
    if math.isnan(until):
        raise BadRequest("until is not a time in seconds since 1970")
    return until


def _as_of(tracker: Tracker, until: float) -> Tracker:
    """The tracker at that time: without the first later event and all events after it."""
    events = tracker.events
    later = (i for i, event in enumerate(events) if event.timestamp > until)
    end = next(later, len(events))
    return Tracker(tracker.sender_id, events[:end], tracker.initial_slots)


async def _events(request: Request, settings: Settings) -> list[dict[str, Any]]:
    """The events of a body, one or a list, checked; their times are set in the turn.

    Raises BadRequest, InvalidEvent, TooMuch.
    """
    body = await read_json(request, settings)
    wires = body if isinstance(body, list) else [body]
    if not wires:
        raise BadRequest("the body is an empty list: there is no event in it")
    if len(wires) > settings.max_events:
        raise TooMuch(f"the body has more than {settings.max_events} events")
    await sliced(_checked(event, place, settings) for place, event in enumerate(encoding(wires)))
    return wires


def _checked(event: EncodedEvent, place: int, settings: Settings) -> EncodedEvent:
    if len(event.text) > settings.max_event:
        raise TooMuch(f"event {place} has more than {settings.max_event} characters as JSON")
    check_fields(event.wire, f"event {place}")
    return event


def _made(wire: dict[str, Any]) -> Event:
    """The event of a body, not copied; it gets the current time if it has none."""
    if wire.get("timestamp") is None:
        wire["timestamp"] = time.time()
    return Event.from_dict(wire, stamp=False)


def _named(request: Request, body: Mapping[str, Any]) -> dict[str, Any]:
    """The message id that the client gave, as for a webhook. Raises BadRequest."""
    given = body.get("message_id", request.headers.get("idempotency-key"))
    return {"may_repeat": False} if given is None else {"message_id": check_message_id(given)}


def _entities(given: Any) -> list[dict[str, Any]]:
    """Entities as a list of objects, or as one object of names and values."""
    if given is None:
        return []
    if isinstance(given, dict):
        return [{"entity": name, "value": value} for name, value in given.items()]
    if isinstance(given, list) and all(isinstance(entity, dict) for entity in given):
        return given
    raise BadRequest("entities is neither a list of objects nor an object")
