"""`ticketlock tracker`: what people and scripts do with histories."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from contract_events import session, user

from ticketlock import cli
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.tracker.tracker import Tracker
from ticketlock.tracker.transfer import TransferError, check_export, migrate

Capture = pytest.CaptureFixture[str]


def endpoints(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yml"
    path.write_text(f"tracker_store:\n  type: sql\n  db: {folder}/{name}.db\n")
    return path


def fill(folder: Path, name: str, histories: dict[str, list[dict[str, Any]]]) -> Path:
    async def body() -> None:
        async with create_tracker_store({"type": "sql", "db": f"{folder}/{name}.db"}) as store:
            for sender_id, events in histories.items():
                await store.update(Tracker.from_dict(sender_id, events))

    asyncio.run(body())
    return endpoints(folder, name)


HISTORIES = {
    "a": [*session(0), user("hello", 1), *session(5), user("again", 6)],
    "b |x| ü": [user("only", 1)],
    "esc\x1b[31m": [user("\x1b[31mred", 2)],
}


def run(*words: object) -> int:
    return cli.main([str(word) for word in words])


def test_list_and_show(tmp_path: Path, capsys: Capture) -> None:
    """Readable, complete, and harmless to a terminal."""
    file = fill(tmp_path, "one", HISTORIES)
    assert run("tracker", "list", "--endpoints", file) == 0
    said = capsys.readouterr().out
    assert "b |x| ü" in said
    assert "\x1b" not in said
    assert run("tracker", "list", "--json", "--endpoints", file) == 0
    assert json.loads(capsys.readouterr().out)["conversations"] == sorted(HISTORIES)
    assert run("tracker", "show", "a", "--json", "--endpoints", file) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["sender_id"] == "a"
    assert shown["events"] == HISTORIES["a"]
    assert run("tracker", "show", "a", "--endpoints", file) == 0
    assert "hello" in capsys.readouterr().out
    assert run("tracker", "show", "nobody", "--endpoints", file) == cli.EXIT_FAILED


def test_delete(tmp_path: Path, capsys: Capture) -> None:
    """Once there is something, then there is nothing."""
    file = fill(tmp_path, "one", HISTORIES)
    assert run("tracker", "delete", "a", "--endpoints", file) == 0
    assert run("tracker", "delete", "a", "--endpoints", file) == cli.EXIT_FAILED
    assert run("tracker", "show", "a", "--endpoints", file) == cli.EXIT_FAILED


def test_export_and_import(tmp_path: Path, capsys: Capture) -> None:
    """What comes out goes in again, all of it, and twice does no harm."""
    one, two = fill(tmp_path, "one", HISTORIES), endpoints(tmp_path, "two")
    file = tmp_path / "all.jsonl"
    assert run("tracker", "export", file, "--endpoints", one) == 0
    for expected in ({"conversations": 3, "skipped": 0}, {"conversations": 0, "skipped": 3}):
        capsys.readouterr()
        assert run("tracker", "import", file, "--json", "--endpoints", two) == 0
        told = json.loads(capsys.readouterr().out)
        assert expected.items() <= told.items()
    assert run("tracker", "export", tmp_path / "again.jsonl", "--endpoints", two) == 0
    assert (tmp_path / "again.jsonl").read_bytes() == file.read_bytes()


def test_export_for_rasa(tmp_path: Path, capsys: Capture) -> None:
    """Events that end a Rasa server which reads them are left out, and counted; the rest goes in."""
    said = {"event": "user", "text": "hi", "timestamp": 1.0}
    parsed = {**said, "parse_data": {"intent": {"name": "greet"}}}
    bot = {"event": "bot", "text": "Hi", "timestamp": 2.0}
    others: list[dict[str, Any]] = [
        {"event": "flow_started", "flow_id": "f", "timestamp": 1.0},
        {"event": "of my own", "timestamp": 1.0},
        {"event": "of my own", "timestamp": 2.0},
    ]
    one = fill(tmp_path, "one", {"a": [said, *others, bot, parsed]})
    two, file = endpoints(tmp_path, "two"), tmp_path / "all.jsonl"
    assert run("tracker", "export", "--format", "rasa", file, "--endpoints", one) == 0
    told = capsys.readouterr().err
    assert "1 events flow_started were left out: Rasa does not know them" in told
    assert "2 events of my own were left out" in told
    assert run("tracker", "import", file, "--endpoints", two) == 0
    capsys.readouterr()
    run("tracker", "show", "a", "--json", "--endpoints", two)
    events = json.loads(capsys.readouterr().out)["events"]
    assert events == [{**said, "parse_data": {}}, bot, parsed]


def test_half_a_file_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """Cut off anywhere, changed anywhere: nothing is imported."""
    one = fill(tmp_path, "one", HISTORIES)
    file = tmp_path / "all.jsonl"
    run("tracker", "export", file, "--endpoints", one)
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    cuts = [whole[:n] for n in range(0, len(whole) - 1, 97)] + [b"".join(lines[:-1])]
    cuts += [b"".join(lines[1:]), whole.replace(b"hello", b"hullo"), whole + b"{}\n", b"\xff\xfe"]
    two = endpoints(tmp_path, "two")
    for cut in cuts:
        file.write_bytes(cut)
        with pytest.raises(TransferError, match=r"all\.jsonl"):
            check_export(file)
    assert run("tracker", "import", file, "--endpoints", two) == cli.EXIT_BAD_INPUT
    capsys.readouterr()
    run("tracker", "list", "--json", "--endpoints", two)
    assert json.loads(capsys.readouterr().out)["conversations"] == []


def test_import_does_not_overwrite(tmp_path: Path, capsys: Capture) -> None:
    """A conversation with other events is an error, unless --replace."""
    one = fill(tmp_path, "one", HISTORIES)
    two = fill(tmp_path, "two", {"a": [user("precious", 1)]})
    file = tmp_path / "all.jsonl"
    run("tracker", "export", file, "--endpoints", one)
    assert run("tracker", "import", file, "--endpoints", two) != 0
    assert "'a' has other events here" in capsys.readouterr().err
    assert run("tracker", "import", file, "--replace", "--endpoints", two) == 0


def test_migrate_is_resumable(tmp_path: Path, capsys: Capture) -> None:
    """Interrupted and repeated, the copy is complete and verified."""
    histories = {f"c{i:02}": [user(str(k), k) for k in range(i + 1)] for i in range(20)}
    one, two = fill(tmp_path, "one", histories), endpoints(tmp_path, "two")

    async def interrupted() -> None:
        def stop(done: int, total: int) -> None:
            if done == 7:
                raise KeyboardInterrupt

        section = {"type": "sql", "db": str(tmp_path / "one.db")}
        async with create_tracker_store(section) as source:
            async with create_tracker_store({**section, "db": f"{tmp_path}/two.db"}) as target:
                with pytest.raises(KeyboardInterrupt):
                    await migrate(source, target, stop)

    asyncio.run(interrupted())
    assert run("tracker", "migrate", "--to", two, "--json", "--endpoints", one) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"conversations": 13, "events": sum(range(8, 21)), "skipped": 7}
    assert run("tracker", "migrate", "--to", two, "--json", "--endpoints", one) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 20
