"""What older programs have stored is answered, or it is said why not; each store, over HTTP."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from servers.old_data import PLANT, TEAR, TEXTS, plant_no_utf8
from servers.tracker_stores import TRACKER_STORES
from serving import client, send

from ticketlock import cli
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.tracker import Tracker

Run = Callable[..., None]
Capture = pytest.CaptureFixture[str]
SLOT = {"event": "slot", "name": "s", "value": 1}
BACKENDS = [name for name in TRACKER_STORES if name in PLANT]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def section(backend: str, tracker_sections: Any) -> dict[str, Any]:
    return dict(tracker_sections(backend))


def strict(text: str) -> Any:
    """The JSON of an answer, as every client reads it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found = json.loads(text, parse_constant=refuse)
    json.dumps(found, ensure_ascii=False).encode()
    return found


def test_old_data_is_answered(backend: str, section: dict[str, Any], run: Run) -> None:
    """Read, appended to, and talked with; and what is answered 200 is stored once."""
    plant, events = PLANT[backend]
    plant(section, "old", events)

    async def body() -> None:
        async with client(stores=(None, dict(section))) as http:
            root = "/conversations/old/"
            state = await http.get(root + "tracker?include_events=ALL")
            assert state.status_code == 200, state.text
            assert len(strict(state.text)["events"]) == len(events)
            answers = [
                await http.post(root + "tracker/events?include_events=ALL", json=SLOT),
                await http.post(root + "messages", json={"sender": "user", "text": "noted"}),
                await http.post(root + "trigger_intent", json={"name": "go"}),
                await send(http, "and on", sender="old", message_id="m1"),
                await http.get(root + "tracker?include_events=ALL"),
                await http.get(root + "tracker?include_events=APPLIED&until=5"),
                await http.get(root + "story?all_sessions=true"),
            ]
            assert [answer.status_code for answer in answers] == [200] * len(answers)
            for answer in answers[:-1]:
                strict(answer.text)
            state = answers[4].json()
            texts = [e.get("text") for e in state["events"] if e["event"] == "user"][-3:]
            assert texts == ["noted", "EXTERNAL: go", "and on"]
            assert next(e for e in state["events"] if e.get("name") == "s")["value"] == 1

    run(body())


def test_nothing_is_lost_of_it(section: dict[str, Any], backend: str, run: Run) -> None:
    """What JSON has not becomes text that says the same."""
    plant, events = PLANT[backend]
    plant(section, "old", events)

    async def body() -> None:
        async with create_tracker_store(dict(section)) as store:
            tracker = await store.retrieve_full_tracker("old")
            found = [event.as_dict() for event in tracker.events]
        slots = {str(e["name"]): e["value"] for e in found if e["event"] == "slot"}
        if backend == "mongo":
            assert found[0]["timestamp"] == 1577934245.0
            assert slots["n"] == ["NaN", "Infinity"]
            assert (slots["id"], slots["price"], slots["nan"]) == ("30" * 12, 1.1, "NaN")
            assert slots["blob"] == {"x": "AP8="}
        elif backend == "dynamo":
            assert (slots["blob"], slots["set"]) == (["AP8="], ["a"])
        else:
            assert found[0]["parse_data"]["intent"]["confidence"] == "NaN"
            assert (found[1]["timestamp"], slots["n"]) == ("Infinity", "-Infinity")
            assert found[2]["text"] == "half \\ud83d of it"
            assert slots["\\udc00"] == {"\\ud800": 1}
            deep, levels = slots["deep"], 1
            while isinstance(deep, list):
                (deep,), levels = deep, levels + 1
            assert levels == 100
            assert deep == "[" * (960 - 99) + "]" * (960 - 99)
            assert slots["long"] == "9" * 5000

    run(body())


def test_a_torn_history_says_so(
    section: dict[str, Any], backend: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    """500 with a reason, the place in the log alone; nothing of the message is stored."""
    TEAR[backend](section, "torn")
    caplog.set_level(logging.WARNING, "ticketlock")

    async def body() -> None:
        async with client(stores=(None, dict(section))) as http:
            for answer in (
                await http.get("/conversations/torn/tracker?include_events=ALL"),
                await send(http, "hello", sender="torn"),
                await http.post("/conversations/torn/tracker/events", json=SLOT),
            ):
                assert answer.status_code == 500
                assert answer.json()["reason"] == "UnreadableHistory"
                assert "log" in answer.json()["message"]
                assert "127.0.0.1" not in answer.text
            assert (await send(http, "hello", sender="other")).status_code == 200
        async with create_tracker_store(dict(section)) as store:
            assert sorted(await store.keys()) == ["other", "torn"]
            assert await store.count_conversations() >= 1

    run(body())
    assert any("torn" in text or "id 1" in text for text in caplog.messages)


def test_a_walk_goes_on(
    section: dict[str, Any], backend: str, tmp_path: Path, capsys: Capture
) -> None:
    """Export and migrate take all others, name what they could not take, and exit 1."""
    plant, events = PLANT[backend]
    plant(section, "old", events)
    TEAR[backend](section, "torn")
    config, other = tmp_path / "endpoints.yml", tmp_path / "other.yml"
    config.write_text(json.dumps({"tracker_store": section}))
    other.write_text(json.dumps({"tracker_store": {"type": "sql", "db": f"{tmp_path}/other.db"}}))
    third = tmp_path / "third.yml"
    third.write_text(json.dumps({"tracker_store": {"type": "sql", "db": f"{tmp_path}/third.db"}}))

    def run(*words: object) -> tuple[int, str, str]:
        status = cli.main(["tracker", *map(str, words)])
        return status, *capsys.readouterr()

    assert run("list", "--json", "--endpoints", config)[0] == 0
    status, _, errors = run("export", tmp_path / "all.jsonl", "--endpoints", config)
    assert status == cli.EXIT_FAILED
    assert errors.count("was not copied") == 1
    assert "conversation torn was not copied" in errors
    status, out, errors = run("migrate", "--to", other, "--json", "--endpoints", config)
    assert status == cli.EXIT_FAILED
    told = json.loads(out)
    assert (told["conversations"], list(told["failed"])) == (1, ["torn"])
    status, out, errors = run("import", tmp_path / "all.jsonl", "--json", "--endpoints", third)
    assert (status, json.loads(out)["conversations"]) == (0, 1), errors
    shown = [
        run("show", "old", "--json", "--endpoints", file)[1] for file in (config, other, third)
    ]
    assert shown[0] == shown[1] == shown[2]
    assert strict(shown[0])["count"] == len(events)
    assert run("show", "old", "--endpoints", config)[0] == 0


def test_sqlite_keeps_bytes_as_text(tmp_path: Path, tracker_sections: Any, capsys: Capture) -> None:
    """That are no UTF-8: of an event they become text, of an id they are named."""
    section = tracker_sections("sqlite")
    plant_no_utf8(section)
    config = tmp_path / "endpoints.yml"
    config.write_text(json.dumps({"tracker_store": section}))
    words = ["tracker", "export", str(tmp_path / "all.jsonl"), "--endpoints", str(config)]
    assert cli.main(words) == cli.EXIT_FAILED
    assert "conversation '\\udcff' was not copied" in capsys.readouterr().err
    line, _ = (tmp_path / "all.jsonl").read_text().splitlines()
    assert json.loads(line)["events"] == [{"event": "slot", "name": "\\udcff", "value": 1}]


def test_redis_keys_are_bytes(tmp_path: Path, tracker_sections: Any, capsys: Capture) -> None:
    """An id that is no UTF-8 is named, and keeps nothing back."""
    section = tracker_sections("redis")
    PLANT["redis"][0](section, "old", TEXTS[:1])
    with Redis(port=section["port"]) as plain:
        value = f'{{"events": [{TEXTS[0]}]}}'
        plain.set(section["key_prefix"].encode() + b":tracker:\xff", value)
    config = tmp_path / "endpoints.yml"
    config.write_text(json.dumps({"tracker_store": section}))
    words = ["tracker", "export", str(tmp_path / "all.jsonl"), "--endpoints", str(config)]
    assert cli.main(words) == cli.EXIT_FAILED
    assert "conversation '\\udcff' was not copied" in capsys.readouterr().err
    assert len((tmp_path / "all.jsonl").read_text().splitlines()) == 2


def test_an_import_goes_on(tmp_path: Path, capsys: Capture) -> None:
    """Past a conversation that has other events here, which is named."""
    one, two = {"type": "sql", "db": f"{tmp_path}/1.db"}, {"type": "sql", "db": f"{tmp_path}/2.db"}

    async def fill(section: dict[str, Any], *names: str) -> None:
        async with create_tracker_store(section) as store:
            for name in names:
                await store.save(
                    Tracker.from_dict(
                        name, [{"event": "slot", "name": "db", "value": section["db"]}]
                    )
                )

    asyncio.run(fill(one, "a", "b", "c"))
    asyncio.run(fill(two, "b"))
    files = []
    for section in (one, two):
        files.append(tmp_path / f"{len(files)}.yml")
        files[-1].write_text(json.dumps({"tracker_store": section}))
    assert cli.main(["tracker", "export", f"{tmp_path}/x", "--endpoints", str(files[0])]) == 0
    capsys.readouterr()
    assert (
        cli.main(["tracker", "import", f"{tmp_path}/x", "--json", "--endpoints", str(files[1])])
        == 1
    )
    out, errors = capsys.readouterr()
    assert json.loads(out)["conversations"] == 2
    assert "'b' has other events here" in errors
