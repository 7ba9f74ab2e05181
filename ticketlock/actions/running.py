"""`turn.run_action`: a call in a turn, and the events that follow from it, in the documented order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..domain.domain import Domain
from ..domain.speaker import Speaker
from ..errors import ActionFailed, ActionRejected, ConfigurationError, InvalidEvent
from ..events import ActionExecuted, ActionExecutionRejected
from ..events.event import Event
from ..events.reply import utterance
from ..locks.grant import Grant, facts
from ..process import clock
from ..telemetry.observer import ActionCall
from ..tracker.tracker import Tracker
from .wire import call_headers, message_of

if TYPE_CHECKING:
    from .server import ActionServer  # it needs an extra

log = logging.getLogger("ticketlock.actions")


class Acting(Protocol):
    """What of a turn runs an action.

    Attributes:
        actions: where they are run; None: nowhere.
        calls: how many calls the turn has made.
    """

    sender_id: str
    actions: ActionServer | None
    domain: Domain | None
    calls: int
    on_say: Callable[[Event], object] | None

    @property
    def tracker(self) -> Tracker: ...
    @property
    def speaker(self) -> Speaker: ...
    @property
    def grant(self) -> Grant: ...
    def ensure_held(self) -> None: ...
    def add(self, *events: Event | Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Ran:
    """A call that has ended, whose events are not in the turn yet.

    Attributes:
        utterances: those of the events that are replies.
        rejected: the error, if the action declined to run.
    """

    events: list[Event]
    utterances: list[Event]
    rejected: ActionRejected | None = None


async def called(
    turn: Acting, name: str, policy: str | None = None, confidence: float | None = None
) -> Ran:
    """Call an action, and add nothing to the turn. Raises as `Turn.run_action`."""
    if not isinstance(name, str) or not name:
        raise ValueError(f"the name of an action is a text, not {name!r:.80}")
    if turn.domain is not None and name in turn.domain.responses:
        said = _said(turn, name, {"response": name})
        return _ran(ActionExecuted(name, policy, confidence), [] if said is None else [said], ())
    server = turn.actions
    if server is None:
        raise ConfigurationError(
            f"action {name!r} cannot be run: the section action_endpoint of the endpoints.yml is "
            "missing; it names the action server"
        )
    turn.ensure_held()
    turn.calls += 1
    grant, call, began = turn.grant, turn.calls, clock()
    headers = call_headers(turn.sender_id, grant.fence, grant.number, call)
    error: BaseException | None = None
    try:
        more = grant.observers.ask("action_headers", grant) or {}
        answered = await server.run(name, turn.tracker, turn.domain, {**more, **headers})
    except ActionRejected as rejected:
        error = rejected
        return Ran([ActionExecutionRejected(name, policy, confidence)], [], rejected)
    except BaseException as raised:
        error = raised
        raise
    finally:
        seconds = clock() - began
        grant.observers.notify("on_action", grant, ActionCall(name, call, seconds, error))
        log.log(
            logging.DEBUG if error is None or isinstance(error, asyncio.CancelledError) else logging.WARNING,
            "conversation %r, ticket %d: action %r: %s after %.3f s",
            turn.sender_id, grant.number, name, type(error).__name__ if error else "ok", seconds,
            extra=facts(grant, why=type(error).__name__ if error else "ok"),
        )  # fmt: skip
    executed = ActionExecuted(name, policy, confidence)
    try:
        uttered = [_said(turn, name, response) for response in answered.responses]
    except InvalidEvent as error:
        raise ActionFailed(name, f"its answer: responses: {error}") from error
    return _ran(executed, [event for event in uttered if event is not None], answered.events)


def _ran(executed: Event, said: list[Event], wires: Iterable[dict[str, Any]]) -> Ran:
    """In the documented order; an action that rejects itself by an event was not executed."""
    events = [Event.from_dict(wire) for wire in wires]
    itself = any(isinstance(event, ActionExecutionRejected) for event in events)
    return Ran([*([] if itself else [executed]), *said, *events], said)


def _said(turn: Acting, action: str, response: Mapping[str, Any]) -> Event | None:
    """The event of a response; None if it names one that the domain does not have, as documented.

    Raises InvalidEvent if it cannot be stored.
    """
    draft, name = None, response.get("response")
    if name:
        if turn.domain is None or name not in turn.domain.responses:
            log.warning(
                "conversation %r: action %r: its response %r is not in the domain: nothing is said "
                "for it; add it there", turn.sender_id, action, name,
            )  # fmt: skip
            return None
        tracker = turn.tracker
        draft = turn.speaker.message(name, reversed(tracker.events), tracker.slots, response)
        if draft is None:
            return None
    return utterance(message_of(response, draft))


def taken(turn: Acting, ran: Ran) -> list[Event]:
    """Add the events of a call to the turn, and tell those who listen of the replies.

    Raises ActionRejected if the action was rejected.
    """
    turn.add(*ran.events)
    if turn.on_say is not None:
        for utterance in ran.utterances:
            turn.on_say(utterance)
    if ran.rejected is not None:
        raise ran.rejected
    return ran.events
