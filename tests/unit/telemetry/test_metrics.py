"""The metrics: as they are declared, as they are documented, and as both libraries get them."""

from __future__ import annotations

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client.parser import text_string_to_metric_families
from serving import client, send

from ticketlock import Conversations, Grant, LockLost, LockTimeout
from ticketlock.publishing.broker import EventBroker
from ticketlock.publishing.message import DELIVERED, Outcome
from ticketlock.telemetry import metrics as module
from ticketlock.telemetry.metrics import (
    CAUSES,
    HANDOFF,
    METRICS,
    OUTCOMES,
    RESULTS,
    Metered,
    Metric,
)
from ticketlock.telemetry.observer import Observer
from ticketlock.telemetry.otel import SPANS, OpenTelemetry
from ticketlock.telemetry.prometheus import PrometheusMetrics

DOCUMENT = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def rows(title: str) -> list[list[str]]:
    """Of the table below a title, without its head."""
    section = DOCUMENT.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def code(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names)


def test_the_documented_metrics_are_the_declared_ones() -> None:
    """Name, name in Prometheus, kind, unit, attributes and meaning."""
    declared = [
        [
            code([m.name]),
            code([m.prometheus]),
            m.kind,
            code([m.unit]),
            code(m.attributes),
            m.meaning,
        ]
        for m in METRICS
    ]
    assert rows("Metrics") == declared


def test_the_documented_spans_are_the_declared_ones() -> None:
    assert rows("Spans") == [[code([s.name]), s.meaning, code(s.attributes)] for s in SPANS]


def test_the_documented_outcomes_and_causes_are_the_declared_ones() -> None:
    assert [row[0] for row in rows("Outcomes")] == [code([name]) for name in OUTCOMES]
    assert [row[0] for row in rows("Causes")] == [code([name]) for name in CAUSES]
    assert [row[0] for row in rows("Results")] == [code([name]) for name in RESULTS]


def prometheus(metrics: PrometheusMetrics) -> dict[str, float]:
    """Sample -> its value, but for buckets."""
    text = metrics.exposition()[0].decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if not sample.name.endswith(("_bucket", "_created")):
                found[sample.name + "".join(f" {v}" for v in sample.labels.values())] = sample.value
    return found


class Sink(EventBroker):
    async def deliver(self, batch: Any, timeout: float | None = None) -> list[Outcome]:
        return [DELIVERED] * len(batch)


async def test_both_libraries_get_the_same() -> None:
    """A day of turns: some wait, one is lost, one fails, one is refused; all that is published."""
    metrics, reader = PrometheusMetrics(), InMemoryMetricReader()
    async with Conversations(event_broker=Sink()) as conversations:
        conversations.observe(metrics)
        conversations.observe(OpenTelemetry(meter_provider=MeterProvider([reader])))

        async def one(text: str) -> None:
            async with conversations.turn("c") as turn:
                turn.add({"event": "user", "text": text})
                await asyncio.sleep(0.01)

        await asyncio.gather(*map(one, "abc"))
        with pytest.raises(LockLost):
            async with conversations.turn("d", 0.05):
                await asyncio.sleep(20)
        with pytest.raises(KeyError):
            async with conversations.turn("e"):
                raise KeyError
        async with conversations.turn("f"):
            with pytest.raises(LockTimeout):
                await asyncio.create_task(begin(conversations))
    found = prometheus(metrics)
    wanted = {
        "ticketlock_turns_total ok": 4, "ticketlock_turns_total lost": 1,
        "ticketlock_turns_total error": 1, "ticketlock_turns_total timeout": 1,
        "ticketlock_turns_lost_total too_slow": 1, "ticketlock_turns_held": 0,
        "ticketlock_queue_depth": 0, "ticketlock_turn_wait_seconds_count": 6,
        "ticketlock_turn_hold_seconds_count": 6, "ticketlock_turn_handoff_seconds_count": 2,
        "ticketlock_commit_duration_seconds_count": 3, "ticketlock_events_published_total": 3,
        "ticketlock_claim_duration_seconds_count": 6, "ticketlock_outbox_depth": 0,
    }  # fmt: skip
    assert {name: found[name] for name in wanted} == wanted
    assert found["ticketlock_turn_handoff_seconds_sum"] < found["ticketlock_turn_wait_seconds_sum"]
    assert 0.08 <= found["ticketlock_turn_hold_seconds_sum"] < 5
    assert told(reader) == {
        name: value for name, value in found.items() if value and not name.endswith("_sum")
    }


async def begin(conversations: Conversations) -> None:
    async with conversations.turn("f", wait_timeout=0.02):
        pass


def told(reader: InMemoryMetricReader) -> dict[str, float]:
    """What OpenTelemetry was told, under the names of Prometheus; of what is not 0."""
    data, names = reader.get_metrics_data(), {m.name: m for m in METRICS}
    assert data is not None
    found = {}
    for metric in data.resource_metrics[0].scope_metrics[0].metrics:
        declared = names[metric.name]
        assert (metric.unit, metric.description) == (declared.unit, declared.meaning)
        for point in metric.data.data_points:
            name = declared.prometheus + "".join(f" {v}" for v in (point.attributes or {}).values())
            value = getattr(point, "count", None)
            found[name + ("" if value is None else "_count")] = (
                point.value if value is None else value  # type: ignore[union-attr]  # by its kind
            )
    return {name: value for name, value in found.items() if value}


def test_every_metric_is_measured() -> None:
    """Each has something that adds to it: what nothing feeds would be 0 for ever."""
    fed: set[str] = set()

    class All(Metered):
        def add(self, metric: Metric, value: float, *attributes: str) -> None:
            assert len(attributes) == len(metric.attributes)
            fed.add(metric.name)

    told = {name for name in vars(Observer) if name.startswith("on_")}
    assert told - {name for name in vars(Metered) if name.startswith("on_")} == {"on_predecessor"}
    for name in re.findall(r"self\.add\((\w+),", inspect.getsource(module)):
        All().add(getattr(module, name), 1, *getattr(module, name).attributes)
    assert fed == {metric.name for metric in METRICS}


def test_a_hand_off_is_between_neighbours_alone() -> None:
    """Of two turns of this process with that of another between them nothing is known."""
    found: list[float] = []

    class HandOffs(Metered):
        def add(self, metric: Metric, value: float, *attributes: str) -> None:
            if metric is HANDOFF:
                found.append(value)

    metrics = HandOffs()
    one, three, four = (Grant("c", number, number, 1e9, 60) for number in (1, 3, 4))
    three.ahead, four.ahead = 2, 1
    metrics.on_turn(one)
    metrics.on_turn_end(one, 0.0, None)
    metrics.on_turn(three)
    assert found == []
    metrics.on_turn(four)  # the next one may be told of before the end of this one
    metrics.on_turn_end(three, 0.0, None)
    metrics.on_turn_end(four, 0.0, None)
    assert len(found) == 1
    assert 0 <= found[0] < 1


def test_prometheus_names_follow_its_rules() -> None:
    """Base units, `_total` for counters alone."""
    for metric in METRICS:
        assert re.fullmatch(r"ticketlock(_[a-z]+)+", metric.prometheus)
        assert metric.prometheus.endswith("_total") == (metric.kind == "counter")
        assert (metric.unit == "s") == ("_seconds" in metric.prometheus)


async def test_the_server_exposes_them() -> None:
    """In the format that is asked for; behind the operators' tokens."""
    async with client(auth_token="token 12345", admin_token="admin 12345") as http:
        bearer = {"authorization": "Bearer token 12345"}
        await http.post(
            "/webhooks/rest/webhook", json={"message": "x", "sender": "c"}, headers=bearer
        )
        assert (await http.get("/metrics")).status_code == 401
        for token in ("token 12345", "admin 12345"):
            answer = await http.get("/metrics", headers={"authorization": f"Bearer {token}"})
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert 'ticketlock_turns_total{outcome="ok"} 1.0' in answer.text
            assert 'ticketlock_messages_total{reason="ok"} 1.0' in answer.text
        accept = {**bearer, "accept": "application/openmetrics-text; version=1.0.0"}
        answer = await http.get("/metrics", headers=accept)
        assert answer.headers["content-type"].startswith("application/openmetrics-text")
        assert answer.text.endswith("# EOF\n")


async def test_servers_of_one_process_count_for_themselves() -> None:
    async with client() as one, client() as two:
        await send(one, "x")
        texts = [(await http.get("/metrics")).text for http in (one, two)]
    counts = [re.findall(r"(?m)^ticketlock_messages_total\S* (\S+)", text) for text in texts]
    assert counts == [["1.0"], []]
