"""Traces and metrics by the OpenTelemetry API: `pip install "ticketlock[otel]"`.

Only the API is imported; the application chooses the SDK, if any.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, NamedTuple

from ..imports import pip_line

try:
    from opentelemetry import context, metrics, trace
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
except ModuleNotFoundError as error:
    text = f"ticketlock.telemetry.otel needs {error.name}: {pip_line(['otel'])}"
    raise ModuleNotFoundError(text, name=error.name) from None

from ..process import clock
from ..publishing.message import Published
from .metrics import BUCKETS, METRICS, Metered, Metric, action_result, no_turn, outcome
from .observer import ActionCall, Written

if TYPE_CHECKING:
    from ..locks.grant import Grant
    from ..locks.waiter import Waiter

__all__ = ["OpenTelemetry"]

#: The conventions of the attributes `gen_ai.*` and `messaging.*`.
SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
CONVERSATION = "gen_ai.conversation.id"

#: Most open spans of turns, and most conversations whose commits are remembered.
_LIMIT = 10_000

#: Most commits of a conversation that are remembered.
_REMEMBERED = 100

_w3c = TraceContextTextMapPropagator()


def is_recorded() -> bool:
    """Whether an SDK is set up; the API alone records nothing."""
    api_only = (trace.ProxyTracerProvider, trace.NoOpTracerProvider)
    return not isinstance(trace.get_tracer_provider(), api_only)


class SpanKindOf(NamedTuple):
    """One kind of span; docs/reference/metrics.md lists them."""

    name: str
    meaning: str
    attributes: tuple[str, ...]


_TICKET = (CONVERSATION, "ticketlock.ticket", "ticketlock.message_id")
WAIT = SpanKindOf(
    "ticketlock.wait", "From asking for a ticket to the start of the turn, or to the end of the wait",
    (*_TICKET, "ticketlock.ahead", "ticketlock.outcome"),
)  # fmt: skip
TURN = SpanKindOf(
    "ticketlock.turn", "The turn; what its block does is inside",
    (*_TICKET, "ticketlock.fence", "ticketlock.outcome", "ticketlock.cause"),
)  # fmt: skip
CLAIM = SpanKindOf("ticketlock.claim", "Claiming and reading the history", (CONVERSATION,))
COMMIT = SpanKindOf(
    "ticketlock.commit", "Writing the events of the turn", (CONVERSATION, "ticketlock.events")
)
ACTION = SpanKindOf(
    "ticketlock.action", "A call of a custom action, with all tries",
    (CONVERSATION, "ticketlock.action", "ticketlock.result"),
)  # fmt: skip
PUBLISH = SpanKindOf(
    "ticketlock.publish", "A relay gives events of the turn to the broker",
    (CONVERSATION, "messaging.batch.message_count"),
)  # fmt: skip
SPANS = (WAIT, TURN, CLAIM, ACTION, COMMIT, PUBLISH)


class _Open(NamedTuple):
    """The span of a turn, its context, and the context around it."""

    span: Span
    inside: Context
    around: Context
    began: int


class OpenTelemetry(Metered):
    """The observer: `conversations.observe(OpenTelemetry())`.

    In `async with` the turn's span is the current one. A turn that has waited for another has a
    link to it, wherever that was: see `Observer.mark`.

    Args:
        tracer_provider, meter_provider: None: the application's global ones.
    """

    def __init__(self, tracer_provider: Any = None, meter_provider: Any = None) -> None:
        super().__init__()
        ours = ("ticketlock", version("ticketlock"))
        self._tracer = trace.get_tracer(*ours, tracer_provider, schema_url=SCHEMA_URL)
        meter = metrics.get_meter(*ours, meter_provider, schema_url=SCHEMA_URL)
        self._add = {metric: _instrument(meter, metric) for metric in METRICS}
        self._open: dict[int, _Open] = {}
        #: conversation -> (number of the first event, number after the last event, context of the
        #: turn) of each commit that is not published yet.
        self._commits: dict[str, list[tuple[int, int, Context]]] = {}
        self.asgi = _Incoming

    def add(self, metric: Metric, value: float, *attributes: str) -> None:
        self._add[metric](value, dict(zip(metric.attributes, attributes, strict=True)))

    # -- turns ---------------------------------------------------------------------------------

    def on_no_turn(self, waiter: Waiter, error: BaseException | None) -> None:
        super().on_no_turn(waiter, error)
        now = time.time_ns()
        began = now - _ns(clock() - waiter.started) if waiter.started else now
        named = _named(waiter.conversation_id, waiter.number, waiter.label)
        named["ticketlock.outcome"] = no_turn(error)
        span = self._tracer.start_span(WAIT.name, start_time=began, attributes=named)
        if error is not None:
            _failed(span, error)
        span.end(now)

    def on_turn(self, grant: Grant) -> None:
        super().on_turn(grant)
        now = time.time_ns() - _ns(grant.held_for())
        named = _named(grant.conversation_id, grant.number, grant.label)
        around = context.get_current()
        waited = {**named, "ticketlock.ahead": grant.ahead}
        began = now - _ns(grant.waited)
        wait = self._tracer.start_span(WAIT.name, start_time=began, attributes=waited)
        wait.end(now)
        named["ticketlock.fence"] = grant.fence
        # Without a span around them, wait and turn are one trace all the same.
        parent = around if _valid(trace.get_current_span()) else trace.set_span_in_context(wait)
        span = self._tracer.start_span(TURN.name, parent, start_time=now, attributes=named)
        inside = trace.set_span_in_context(span)
        if len(self._open) >= _LIMIT:  # acquired and never released
            self._open.pop(next(iter(self._open))).span.end()
        self._open[id(grant)] = _Open(span, inside, around, now)
        context.attach(trace.set_span_in_context(span, around))

    def on_turn_lost(self, grant: Grant) -> None:
        super().on_turn_lost(grant)
        if (found := self._open.get(id(grant))) is not None:
            found.span.set_attribute("ticketlock.cause", grant.cause)
            found.span.set_status(Status(StatusCode.ERROR, grant.reason))

    def on_turn_end(self, grant: Grant, held: float, error: BaseException | None) -> None:
        super().on_turn_end(grant, held, error)
        if (found := self._open.pop(id(grant), None)) is None:
            return
        found.span.set_attribute("ticketlock.outcome", outcome(grant, error))
        if error is not None and grant.reason is None:
            _failed(found.span, error)
        found.span.end(found.began + _ns(held))
        if trace.get_current_span() is found.span:  # else another task has ended it
            context.attach(found.around)

    def on_claim(self, grant: Grant, seconds: float, error: BaseException | None) -> None:
        super().on_claim(grant, seconds, error)
        self._inside(grant, CLAIM.name, seconds, error, {})

    def on_commit(
        self, grant: Grant, written: Written, seconds: float, error: BaseException | None
    ) -> None:
        super().on_commit(grant, written, seconds, error)
        self._inside(grant, COMMIT.name, seconds, error, {"ticketlock.events": written.count})
        found = self._open.get(id(grant))
        if error is None and written.to_publish and found is not None and _valid(found.span):
            if len(self._commits) >= _LIMIT:
                del self._commits[next(iter(self._commits))]
            commits = self._commits.setdefault(grant.conversation_id, [])
            commits.append((written.first, written.first + written.count, found.inside))
            del commits[:-_REMEMBERED]  # older ones were published by another replica

    def on_action(self, grant: Grant, call: ActionCall) -> None:
        super().on_action(grant, call)
        named = {"ticketlock.action": call.name, "ticketlock.result": action_result(call.error)}
        self._inside(grant, ACTION.name, call.seconds, call.error, named)

    def action_headers(self, grant: Grant) -> Mapping[str, str] | None:
        found = self._open.get(id(grant))
        return None if found is None else _carrier(found.inside)

    def _inside(
        self,
        grant: Grant,
        name: str,
        seconds: float,
        error: BaseException | None,
        more: Mapping[str, str | int],
    ) -> None:
        """Add a span in that of a turn, for work that has just ended."""
        if (found := self._open.get(id(grant))) is not None:
            named: dict[str, str | int] = {CONVERSATION: grant.conversation_id, **more}
            now = time.time_ns()
            began = now - _ns(seconds)
            span = self._tracer.start_span(name, found.inside, start_time=began, attributes=named)
            if error is not None:
                _failed(span, error)
            span.end(now)

    # -- from turn to turn ---------------------------------------------------------------------

    def mark(self, grant: Grant) -> str | None:
        found = self._open.get(id(grant))
        return None if found is None else _carrier(found.inside).get("traceparent")

    def on_predecessor(self, grant: Grant, mark: str) -> None:
        if (found := self._open.get(id(grant))) is not None:
            there = trace.get_current_span(_w3c.extract({"traceparent": mark}, Context()))
            found.span.add_link(there.get_span_context(), {"ticketlock.link": "waited_for"})

    # -- from turn to broker -------------------------------------------------------------------

    def headers(self, conversation_id: str, sequence: int) -> Mapping[str, str] | None:
        for first, end, inside in self._commits.get(conversation_id, ()):
            if first <= sequence < end:
                return _carrier(inside)
        return None

    def on_published(self, published: Published) -> None:
        super().on_published(published)
        name, now = published.conversation_id, time.time_ns()
        reached = published.first + published.delivered + published.dead
        commits = self._commits.pop(name, [])
        for first, end, inside in commits:
            count = min(end, reached) - max(first, published.first)
            if count > 0:
                named = _named(name, 0, None) | {"messaging.batch.message_count": count}
                self._tracer.start_span(
                    PUBLISH.name, inside, SpanKind.PRODUCER, named,
                    start_time=now - _ns(published.seconds),
                ).end(now)  # fmt: skip
        if left := [commit for commit in commits if commit[1] > reached]:
            self._commits[name] = left


class _Incoming:
    """ASGI middleware that continues the trace of the request's `traceparent`.

    A span of the application's own instrumentation takes precedence.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or _valid(trace.get_current_span()):
            await self._app(scope, receive, send)
            return
        named = (
            (name.decode("latin-1"), text.decode("latin-1")) for name, text in scope["headers"]
        )
        token = context.attach(_w3c.extract(dict(named)))
        try:
            await self._app(scope, receive, send)
        finally:
            context.detach(token)


def _instrument(meter: metrics.Meter, metric: Metric) -> Callable[[float, dict[str, str]], None]:
    args = (metric.name, metric.unit, metric.meaning)
    if metric.kind == "counter":
        return meter.create_counter(*args).add
    if metric.kind == "sum":
        return meter.create_up_down_counter(*args).add
    if metric.kind == "gauge":
        return meter.create_gauge(*args).set
    return meter.create_histogram(*args, explicit_bucket_boundaries_advisory=BUCKETS).record


def _named(conversation_id: str, number: int, label: str | None) -> dict[str, str | int]:
    named: dict[str, str | int] = {CONVERSATION: conversation_id}
    if number > 0:
        named["ticketlock.ticket"] = number
    return named if label is None else {**named, "ticketlock.message_id": label}


def _failed(span: Span, error: BaseException) -> None:
    """Record only the class of an error: its text may contain anything."""
    span.set_attribute("error.type", type(error).__qualname__)
    span.set_status(Status(StatusCode.ERROR, type(error).__qualname__))


def _valid(span: Span) -> bool:
    return span.get_span_context().is_valid


def _carrier(inside: Context) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _w3c.inject(carrier, inside)
    return carrier


def _ns(seconds: float) -> int:
    return round(1e9 * seconds)
