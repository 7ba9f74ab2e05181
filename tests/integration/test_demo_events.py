"""The demo with an event broker: what real consumers of real brokers received, and SIGKILL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pika
import pytest
from servers.event_brokers import BACKENDS, Backend

from ticketlock.cli import EXIT_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from ticketlock.demo.judge.events import EVENT_KINDS
from ticketlock.demo.judge.turns import KINDS
from ticketlock.demo.listeners import create_event_listener
from ticketlock.endpoints.registry import create_event_broker
from ticketlock.publishing.message import BrokerMessage
from ticketlock.redis.embedded import EmbeddedRedis

#: Messages of a demo, each of which makes two events.
COUNT = 40
SESSION = ("action_session_start", "session_started", "action_listen")

#: Python runs it when it starts: what a dead relay had is taken over soon, not after half a
#: minute, and nobody waits long for what is missing.
HASTE = """
import ticketlock.tracker.outbox, ticketlock.publishing.relay, ticketlock.demo.consumer
ticketlock.tracker.outbox.LEASE_MS = 1500
ticketlock.publishing.relay.SWEEP_SECONDS = ticketlock.publishing.relay.LEFT_SECONDS = 0.2
ticketlock.demo.consumer.MISSING = 0.3
"""

#: The same with a relay's broker that says of each event that it is delivered, and sends every
#: batch from its end to its beginning, without the last event of each conversation.
BROKEN = (
    HASTE
    + """
from ticketlock.brokers.file.broker import FileEventBroker as Broker
from ticketlock.publishing.message import DELIVERED
send = Broker._send
def broken(self, batch, end):
    lasts = {wire.key: wire for wire in batch}.values()
    kept = [wire for wire in reversed(batch) if len(batch) == 1 or wire not in lasts]
    if kept:
        send(self, kept, end)
    return [DELIVERED] * len(batch)
Broker._send = broken
"""
)


class Demo:
    """`ticketlock demo --json` with a broker, in processes that begin with a text of Python."""

    def __init__(self, folder: Path, redis: EmbeddedRedis) -> None:
        self._folder = folder
        self._locks = {"type": "concurrent_redis", "url": redis.url}

    def run(self, broker: dict[str, Any], *words: str, start: str = HASTE) -> tuple[int, str, str]:
        (self._folder / "sitecustomize.py").write_text(start)
        file = self._folder / "endpoints.yml"
        file.write_text(json.dumps({"lock_store": self._locks, "event_broker": broker}))
        tests = Path(__file__).parent.parent
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "ticketlock", "demo", "--json"),
                *(
                    "--endpoints",
                    str(file),
                    "--count",
                    str(COUNT),
                    "--conversations",
                    "9",
                    "--replicas",
                    "2",
                    *words,
                ),
            ],
            env={**os.environ, "PYTHONPATH": f"{self._folder}{os.pathsep}{tests}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        return ended.returncode, ended.stdout, ended.stderr

    def values(self, broker: dict[str, Any], *words: str, **more: Any) -> dict[str, Any]:
        status, out, err = self.run(broker, *words, **more)
        assert status in (EXIT_OK, EXIT_FAILED), err
        values: dict[str, Any] = json.loads(out)
        assert {kind: values[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0), err
        return values


@pytest.fixture
def demo(tmp_path: Path, redis_server: EmbeddedRedis) -> Demo:
    folder = tmp_path / "demo"
    folder.mkdir()
    return Demo(folder, redis_server)


async def publish(backend: Backend, sender_id: str) -> None:
    broker = await create_event_broker(backend.section())
    assert broker is not None
    (outcome,) = await broker.deliver([BrokerMessage(sender_id, 0, {"event": "user"})])
    await broker.close()
    assert outcome.status == "delivered"


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "kills"), [("kafka", 1), ("pika", 1), ("sql", 0)])
def test_every_event_arrives_though_a_replica_is_killed_and_others_keep_theirs(
    kind: str, kills: int, demo: Demo, tmp_path: Path, request: pytest.FixtureRequest, run: Any
) -> None:
    fixture, make = BACKENDS[kind]
    backend = make(fixture and request.getfixturevalue(fixture), tmp_path)
    run(publish(backend, "somebody"))
    values = demo.values(backend.section(), *(["--kill", str(kills)] if kills else []))
    events = values["events"]
    problems = [kind.removeprefix("events_") for kind in EVENT_KINDS]
    assert {name: events[name] for name in problems} == dict.fromkeys(problems, 0)
    # A message and its answer; and what begins the session of each conversation.
    assert events["committed"] == events["received"] > 2 * COUNT
    assert (events["committed"] - 2 * COUNT) % len(SESSION) == 0
    assert (values["kills"], events["broker"].lower()) == (kills, kind)
    everything = 1 + events["committed"] + events["duplicates"]
    found = backend.read(everything)  # by another consumer
    assert len(found) == everything
    assert [event["sender_id"] for event in found].count("somebody") == 1


def test_a_relay_that_drops_and_reorders_events_is_found_out(demo: Demo, tmp_path: Path) -> None:
    section = {"type": "file", "path": str(tmp_path / "events.log")}
    status, out, _ = demo.run(section, start=BROKEN)
    assert status == EXIT_FAILED
    values = json.loads(out)
    events = values["events"]
    assert events["missing"] > 0
    assert events["out_of_order"] > 0
    assert events["received"] == events["committed"] - events["missing"]
    assert {kind: values[kind] for kind in KINDS} == dict.fromkeys(KINDS, 0)
    assert (events["unknown"], events["differing"], events["waiting"]) == (0, 0, 0)


def test_of_a_custom_broker_the_outbox_alone_is_seen(demo: Demo) -> None:
    section = {"type": "servers.event_brokers.PlainBroker", "url": "here"}
    events = demo.values(section, "--replicas", "1")["events"]
    assert "cannot read from " in events["unread"]
    assert events["committed"] > 2 * COUNT
    assert (events["received"], events["waiting"]) == (None, 0)


def test_a_broker_that_is_away_is_told_before_a_replica_starts(demo: Demo, tmp_path: Path) -> None:
    status, out, err = demo.run({"type": "file", "path": str(tmp_path / "none" / "events.log")})
    assert (status, out) == (EXIT_UNAVAILABLE, "")
    assert "check path" in err
    assert "replicas" not in err


@pytest.mark.parametrize("kind", ["pika"])  # named, so that one worker has all of its tests
def test_a_listeners_queue_goes_with_it(kind: str, rabbitmq: Any, tmp_path: Path, run: Any) -> None:
    backend = BACKENDS[kind][1](rabbitmq, tmp_path)
    name = f"listener-{time.time_ns()}"
    listener = create_event_listener(backend.section(), name)
    assert listener is not None
    listener.open(time.monotonic() + 10)
    run(publish(backend, "somebody"))
    (found,) = listener.read(9, 5)
    assert json.loads(found.body)["sender_id"] == "somebody"
    listener.close(time.monotonic() + 5)
    assert len(backend.read(1)) == 1
    connection = rabbitmq.connect()
    try:
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
            connection.channel().queue_declare(name, passive=True)
    finally:
        connection.close()


@pytest.mark.parametrize("kind", ["kafka"])
def test_a_listener_of_a_topic_goes_on_where_it_was_after_a_new_start(
    kind: str, kafka: Any, tmp_path: Path, run: Any
) -> None:
    backend = BACKENDS[kind][1](kafka, tmp_path)
    run(publish(backend, "before"))
    listener = create_event_listener(backend.section(), "ticketlock-test")
    assert listener is not None
    heard: list[str] = []
    for name in ("one", "two"):
        listener.open(time.monotonic() + 10)
        listener.keep_alive()
        run(publish(backend, name))
        end = time.monotonic() + 10
        while len(heard) < (1 if name == "one" else 2) and time.monotonic() < end:
            heard += [json.loads(found.body)["sender_id"] for found in listener.read(9, 0.5)]
        assert listener.is_caught_up()
        listener.close(time.monotonic() + 5)
    assert heard == ["one", "two"]
