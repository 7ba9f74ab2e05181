"""`ticketlock events export` between real stores and brokers, killed and interrupted at will."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contract_events import session, user
from servers.event_brokers import BACKENDS, Backend

from ticketlock import cli
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.publishing.export.export import PROCESS_ID_HEADER
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.tracker.tracker import Tracker

Capture = pytest.CaptureFixture[str]

#: Ids that a comma list, a shell or a terminal would spoil.
HOSTILE = ["a,b", " padded ", "new\nline", "esc\x1b[31m", "ü|*{x}", "-x"]
HISTORIES = {
    **{f"c{i:02}": [user(f"{i}.{n}", (n * 7919) % 100) for n in range(40)] for i in range(15)},
    **{name: [*session(5), user(name, 3)] for name in HOSTILE},
}
COUNT = sum(map(len, HISTORIES.values()))
BATCH = 10


def fill(section: dict[str, Any], histories: dict[str, list[dict[str, Any]]]) -> None:
    async def body() -> None:
        async with create_tracker_store(section) as store:
            for sender_id, events in histories.items():
                await store.update(Tracker.from_dict(sender_id, events))

    asyncio.run(body())


def write(folder: Path, **sections: dict[str, Any]) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(json.dumps(sections))  # JSON is YAML
    return path


def words(folder: Path, *more: object) -> list[str]:
    files = ["--endpoints", folder / "endpoints.yml", "--state", folder / "state"]
    return [str(word) for word in ("events", "export", *files, "--json", *more)]


def start(folder: Path, *more: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ticketlock", *words(folder, *more)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder
    )


def position(folder: Path) -> dict[str, Any]:
    """What the state says; it is whole at every moment."""
    try:
        text = (folder / "state").read_text()
    except FileNotFoundError:
        text = ""
    return dict(json.loads(text)["position"]) if text else {"published": 0, "complete": False}


def wait_for(folder: Path, process: subprocess.Popen[str], published: int) -> None:
    end = time.monotonic() + 30
    while process.poll() is None and position(folder)["published"] < published:
        assert time.monotonic() < end, "the export does not get on"
        time.sleep(0.002)


def judge(events: list[dict[str, Any]], repeats: int) -> None:
    """All of the source and nothing else, in order, with so many repeats at most."""
    seen: dict[str, list[dict[str, Any]]] = {}
    numbers: dict[str, set[int]] = {}
    lives: dict[str, int] = {}
    for event in events:
        name = event.pop("sender_id")
        history = event.pop("history")
        assert lives.setdefault(name, history) == history > 0
        if event["sequence"] not in numbers.setdefault(name, set()):
            numbers[name].add(event["sequence"])
            seen.setdefault(name, []).append(event)
    assert len(events) <= COUNT + repeats
    assert seen.keys() == HISTORIES.keys()
    for name, history in HISTORIES.items():
        assert seen[name] == [{**event, "sequence": n} for n, event in enumerate(history)]


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Backend]:
    def make(name: str) -> Backend:
        fixture, kind = BACKENDS[name]
        return kind(request.getfixturevalue(fixture) if fixture else None, tmp_path)

    return make


def finish(folder: Path, *more: object) -> dict[str, Any]:
    process = start(folder, "--resume", "--batch-size", BATCH, *more)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return dict(json.loads(out))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "name", "kills"),
    [
        ("sql", "kafka", 1),
        ("sql", "pika", 1),
        ("sql", "sql", 1),
        ("sql", "file", 3),
        ("redis", "pika", 1),
    ],
)
def test_killed_and_resumed(
    source: str,
    name: str,
    kills: int,
    backend: Callable[[str], Backend],
    tmp_path: Path,
    redis_server: EmbeddedRedis,
) -> None:
    """SIGKILL at random points: nothing is missing, a batch is repeated at most, counts agree."""
    target = backend(name)
    store: dict[str, Any] = {"type": "sql", "db": str(tmp_path / "bot.db")}
    if source == "redis":
        store = {"type": "redis", "port": redis_server.port, "db": 5, "key_prefix": "export"}
    fill(store, HISTORIES)
    write(tmp_path, tracker_store=store, event_broker=target.section())
    begun = False
    for number in range(kills):
        before = position(tmp_path)["published"]
        process = start(tmp_path, "--batch-size", BATCH, *(["--resume"] if begun else []))
        wait_for(tmp_path, process, before + random.randrange(1, COUNT // kills - 100))
        time.sleep(random.uniform(0, 0.01))  # anywhere within a batch
        assert process.poll() is None, f"it was through before kill {number}"
        process.kill()
        process.communicate()
        begun = True
        assert not position(tmp_path)["complete"]
    before = position(tmp_path)["published"]
    told = finish(tmp_path)
    judge(target.read(COUNT), repeats=kills * BATCH)
    assert (told["published_before"], told["published_total"]) == (before, COUNT)
    assert (told["published"], told["complete"], told["failed"]) == (COUNT - before, True, 0)
    assert told["conversations"] + told["conversations_before"] == len(HISTORIES)


@pytest.mark.slow
def test_interrupted_and_resumed(backend: Any, tmp_path: Path, capsys: Capture) -> None:
    """A polite end repeats nothing, says what was done, and how to go on."""
    target = backend("file")
    fill({"type": "sql", "db": str(tmp_path / "bot.db")}, HISTORIES)
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    write(tmp_path, tracker_store=store, event_broker=target.section())
    published = 0
    for number, more in ((signal.SIGINT, []), (signal.SIGTERM, ["--resume"])):
        process = start(tmp_path, "--batch-size", BATCH, *more)
        wait_for(tmp_path, process, published + 100)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert process.returncode == cli.EXIT_SIGNAL + number, err
        assert "--resume continues" in err
        told = json.loads(out)
        published = told["published_total"]
        assert not told["complete"]
        assert len(target.read(0)) == published == position(tmp_path)["published"]
    assert cli.main(words(tmp_path)) == cli.EXIT_BAD_INPUT
    assert "was interrupted" in capsys.readouterr().err
    assert finish(tmp_path)["published_before"] == published
    judge(target.read(COUNT), repeats=0)


@pytest.mark.slow
def test_pika_whose_server_is_killed(own_rabbitmq: Any, backend: Any, tmp_path: Path) -> None:
    """Too short a patience ends it with a position; a longer one waits for the server."""
    server, target = own_rabbitmq, backend("pika")
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    fill(store, HISTORIES)
    write(tmp_path, tracker_store=store, event_broker=target.section())
    process = start(tmp_path, "--batch-size", BATCH, "--patience", 0.5)
    wait_for(tmp_path, process, 200)
    server.stop(kill=True)
    out, err = process.communicate(timeout=60)
    assert process.returncode == cli.EXIT_UNAVAILABLE, err
    told = json.loads(out)
    assert told["published"] == position(tmp_path)["published"] < COUNT
    assert "endpoints.yml: event_broker: " in err
    waiting = start(tmp_path, "--resume", "--batch-size", BATCH, "--patience", 60)
    server.start()
    out, err = waiting.communicate(timeout=90)
    assert waiting.returncode == 0, err
    assert json.loads(out)["published_total"] == COUNT
    judge(target.read(COUNT), repeats=2 * BATCH)


@pytest.mark.parametrize("name", ["kafka", "pika"])
def test_headers(name: str, backend: Any, tmp_path: Path, capsys: Capture) -> None:
    """One process id for all messages of a run, on brokers that have headers."""
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    fill(store, {"a": [user("x", 1)]})
    target = backend(name)
    write(tmp_path, tracker_store=store, event_broker=target.section())
    assert cli.main(words(tmp_path)) == 0
    told = json.loads(capsys.readouterr().out)["process_id"]
    assert target.headers()[PROCESS_ID_HEADER] == told


def test_the_choice_of_conversations(backend: Any, tmp_path: Path, capsys: Capture) -> None:
    """A trimmed list, and single ids of any kind; those that are missing are warned of."""
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    fill(store, HISTORIES)
    target = backend("file")
    write(tmp_path, tracker_store=store, event_broker=target.section())
    single = [f"--conversation-id={name}" for name in HOSTILE]
    more = ["--conversation-ids", " c00 ,c01,, nobody", "--maximum-timestamp", 4, *single]
    assert cli.main(words(tmp_path, *more, "--offset-timestamps-by-seconds", -10)) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["missing"] == ["nobody"]
    assert "conversation 'nobody' is not in the tracker store" in said.err
    events = target.read(1)
    assert {event["sender_id"] for event in events} == {"c00", "c01", *HOSTILE}
    assert all(event["timestamp"] < -6 for event in events)
    wanted = sum(event["timestamp"] < 4 for event in HISTORIES["c00"])
    assert len(events) == 2 * wanted + len(HOSTILE)


def test_wrong_files_and_options(backend: Any, tmp_path: Path, capsys: Capture) -> None:
    """Each error says which file and section, or which option, and nothing is published."""
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    broker = backend("file").section()
    fill(store, {})

    def fails(status: int, text: str, *more: object) -> None:
        assert cli.main(words(tmp_path, *more)) == status
        assert text in capsys.readouterr().err

    write(tmp_path, tracker_store=store)
    fails(cli.EXIT_BAD_INPUT, "endpoints.yml: event_broker: is missing")
    write(tmp_path, event_broker=broker)
    fails(cli.EXIT_BAD_INPUT, "endpoints.yml: tracker_store: is missing")
    write(tmp_path, tracker_store={"type": "in_memory"}, event_broker=broker)
    fails(cli.EXIT_BAD_INPUT, "an in_memory tracker store cannot be exported")
    write(tmp_path, tracker_store=store, event_broker=broker)
    fails(cli.EXIT_FAILED, "no conversations: nothing to export")
    fill(store, {"a": [user("x", 1)]})
    fails(cli.EXIT_FAILED, "none of the given", "--conversation-id", "b")
    fails(cli.EXIT_BAD_INPUT, "no id is given", "--conversation-ids", " , ")
    fails(cli.EXIT_BAD_INPUT, "no export to continue", "--resume")
    times = ["--minimum-timestamp", 2, "--maximum-timestamp", 1]
    fails(cli.EXIT_BAD_INPUT, "maximum timestamp 1.0 is smaller", *times)
    gone = {"type": "redis", "port": 1}
    write(tmp_path, tracker_store=gone, event_broker=broker)
    fails(cli.EXIT_UNAVAILABLE, "endpoints.yml: tracker_store: Redis at localhost:1")
    assert not (tmp_path / "events.log").exists()
    assert not (tmp_path / "state").exists()


def test_the_text(backend: Any, tmp_path: Path, capsys: Capture, monkeypatch: Any) -> None:
    """For people: counts, and the default place of the state, in the current folder."""
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    fill(store, {"a": [user("x", 1), user("y", 2)]})
    path = write(tmp_path, tracker_store=store, event_broker=backend("file").section())
    monkeypatch.chdir(tmp_path)
    assert cli.main(["events", "export"]) == 0
    assert capsys.readouterr().out == "published 2 events\n"
    assert (tmp_path / "endpoints.export.json").exists()
    assert cli.main(["events", "export", "--endpoints", str(path), "--resume"]) == 0
    assert capsys.readouterr().out == "published 0 events, 2 in total with those before\n"


def test_poisoned_events_of_pika(
    backend: Any, tmp_path: Path, capsys: Capture, rabbitmq: Any
) -> None:
    """They are named, and the status says that not all arrived, in a continuation too."""
    target = backend("pika")
    if target.largest is None:
        pytest.skip("the given RabbitMQ has limits that we do not know")
    store = {"type": "sql", "db": str(tmp_path / "bot.db")}
    fill(store, {"a": [user("x", 1), user("y" * 2 * target.largest, 2), user("z", 3)]})
    write(tmp_path, tracker_store=store, event_broker=target.section())
    assert cli.main(words(tmp_path)) == cli.EXIT_FAILED
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["published"], told["failed"], told["complete"]) == (2, 1, True)
    assert told["failures"][0]["sequence"] == 1
    assert "event 1 of conversation 'a'" in said.err
    # The server closes the channel over it: what was on its way is sent again.
    assert {event["sequence"] for event in target.read(2)} == {0, 2}
    assert cli.main(words(tmp_path, "--resume")) == cli.EXIT_FAILED
