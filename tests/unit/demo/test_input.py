"""What a demo is given: stores from its options and files, messages from transcripts."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ticketlock import ConfigurationError, Conversations, InvalidConversationId, InvalidEvent, cli
from ticketlock.demo.backends import Backends, check_messages
from ticketlock.demo.traffic import Message, generate, read_transcript
from ticketlock.endpoints import read_endpoints
from ticketlock.endpoints.registry import create_tracker_store
from ticketlock.events import UserUttered
from ticketlock.server import Settings
from ticketlock.tracker.store import TrackerStore


def test_without_options_the_tracker_store_is_a_file_of_the_demo(tmp_path: Path) -> None:
    backends = Backends.choose(None, None, str(tmp_path), "demo1")
    assert backends.lock_store is None
    assert backends.own_tracker
    assert backends.tracker_store == {"type": "sql", "db": str(tmp_path / "demo.db")}


def test_a_file_of_endpoints_may_have_either_section(tmp_path: Path) -> None:
    file = tmp_path / "endpoints.yml"
    file.write_text("tracker_store: {type: redis, url: here, db: 3}\n")
    backends = Backends.choose("redis://there", file, str(tmp_path), "demo1")
    assert backends.tracker_store == {"type": "redis", "url": "here", "db": 3}
    assert not backends.own_tracker
    assert backends.lock_store is not None
    assert backends.lock_store["key_prefix"] == "demo1"
    file.write_text("lock_store: {type: redis, host: here}\n")
    backends = Backends.choose(None, file, str(tmp_path), "demo1")
    assert backends.lock_store == {"type": "redis", "host": "here"}
    assert backends.own_tracker


@pytest.mark.parametrize(
    ("text", "words", "problem"),
    [
        ("tracker_store: {type: in_memory}", [], "tracker_store: InMemoryTrackerStore is private"),
        ("tracker_store: {type: sql, db: ':memory:'}", [], "SQLTrackerStore is private"),
        ("lock_store: {type: in_memory}", [], "lock_store: InMemoryLockStore is private"),
        ("lock_store: {type: redis}", ["--redis", "redis://there"], "give one of them"),
        ("lock_store: {type: redis}", ["--keep"], "--keep needs a tracker store of yours"),
        ("tracker_store: {type: nobody.knows}", [], "nobody"),
        ("sections: {}", [], "is not a section"),
    ],
)
def test_stores_that_replicas_cannot_use_are_named_and_nothing_is_started(
    text: str,
    words: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ticketlock.demo.EmbeddedRedis", lambda: pytest.fail("it was started"))
    file = tmp_path / "endpoints.yml"
    file.write_text(text)
    words = ["demo", "--json", "--count", "3", "--endpoints", str(file), *words]
    assert cli.main(words) == cli.EXIT_BAD_INPUT
    assert problem in capsys.readouterr().err


def test_messages_that_a_store_would_refuse_are_refused_at_once() -> None:
    store = create_tracker_store({"type": "in_memory"})
    check_messages([Message(0, "c" * 255, "")], store)
    check_messages([Message(0, "c", "x" * 2000)], TrackerStore())
    with pytest.raises(InvalidConversationId, match="256 characters"):  # to the server it is
        check_messages([Message(0, "c" * 256, "")], store)
    store.max_id_length, store.max_event_bytes = 200, 2000  # type: ignore[attr-defined]  # built-in ones have them
    with pytest.raises(InvalidConversationId, match="201 characters"):
        check_messages([Message(0, "c" * 201, "")], store)
    with pytest.raises(InvalidEvent, match="this store takes 2000"):
        check_messages([Message(0, "c", ""), Message(1, "c", "x" * 2000)], store)


def test_replicas_get_a_file_that_nobody_else_may_read(tmp_path: Path) -> None:
    backends = Backends.choose("redis://:${secret}@there", None, str(tmp_path), "demo1", True)
    path = tmp_path / "endpoints.yml"
    backends.write(path, "of-the-test", 7, unlocked=False)
    assert path.stat().st_mode & 0o777 == 0o600
    found = read_endpoints(path)
    locks, tracker, server = map(found.section, ("lock_store", "tracker_store", "server"))
    assert locks is not None
    assert locks.url == "redis://:${secret}@there"
    assert tracker is not None
    assert tracker.kwargs == {"db": str(tmp_path / "demo.db")}
    assert found.section("event_broker") is not None
    settings = Settings.from_section(server)
    assert (settings.auth_token, settings.max_waiting) == ("of-the-test", 7)


async def test_replicas_that_share_no_lock_write_at_any_time(tmp_path: Path) -> None:
    backends = Backends.choose("redis://there", None, str(tmp_path), "demo1")
    path = tmp_path / "endpoints.yml"
    backends.write(path, "of-the-test", 7, unlocked=True)
    one, other = (Conversations.from_endpoints(path) for _ in range(2))
    async with one, other, one.turn("c") as turn:
        turn.add(UserUttered("one"))
        async with other.turn("c") as overlapping:
            overlapping.add(UserUttered("other"))
    async with backends.tracker() as store:
        tracker = await store.retrieve("c")
    assert tracker is not None
    texts = [event.text for event in tracker.events if isinstance(event, UserUttered)]
    assert texts == ["other", "one"]


# -- traffic --------------------------------------------------------------------------------------


@given(st.integers(1, 40), st.integers(1, 200), st.integers())
def test_generated_traffic_is_complete_and_repeatable(speakers: int, count: int, seed: int) -> None:
    messages = generate(speakers, count, seed)
    assert [message.id for message in messages] == list(range(count))
    assert len({message.conversation for message in messages}) == min(speakers, count)
    assert messages == generate(speakers, count, seed)


def test_a_transcript_is_read_in_file_order(tmp_path: Path) -> None:
    file = tmp_path / "chat.jsonl"
    file.write_text(
        '{"sender_id": "b|[x]", "text": "one", "timestamp": 5}\n\n'
        '{"sender_id": "a", "text": "", "extra": [], "timestamp": null}\r\n'
    )
    assert read_transcript(file) == [Message(0, "b|[x]", "one"), Message(1, "a", "")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{", "is not JSON"),
        (b'{"sender_id": "a", "text": "\xff"}', "is not UTF-8"),
        (b"[" * 100_000, "is n"),  # too deep for one Python, not JSON for another
        (b"[]", "is not a JSON object"),
        (b'{"text": "x"}', "sender_id is missing"),
        (b'{"sender_id": "a"}', "text is missing"),
        (b'{"sender_id": 1, "text": "x"}', "sender_id: 1 is not text"),
        (b'{"sender_id": "", "text": "x"}', "sender_id: a conversation id must be non-empty text"),
        (b'{"sender_id": "\\ud800", "text": "x"}', "is not valid Unicode"),
        (b'{"sender_id": "a\\u0000", "text": "x"}', "contains a NUL character"),
        (b'{"sender_id": "a", "text": "\\ud800"}', "text: is not valid Unicode"),
        (b'{"sender_id": "a", "text": null}', "text: None is not text"),
        (b'{"sender_id": "a", "text": "x", "timestamp": "now"}', "timestamp: 'now' is not a"),
        (b'{"sender_id": "a", "text": "x", "timestamp": true}', "timestamp: True is not a"),
        (b'{"sender_id": "a", "text": "' + b"x" * 2_000_000 + b'"}', "is longer than"),
    ],
)  # fmt: skip
def test_a_malformed_line_is_named_and_nothing_is_started(
    line: bytes,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ticketlock.cli.demo.run", lambda options: pytest.fail("it was started"))
    file = tmp_path / "chat.jsonl"
    file.write_bytes(b'{"sender_id": "a", "text": "fine"}\n' + line + b"\n")
    assert cli.main(["demo", "--json", "--messages", str(file)]) == cli.EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert f"{file}:2: " in error
    assert problem in error


def test_a_transcript_that_is_not_there_or_empty_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.jsonl: No such file"):
        read_transcript(tmp_path / "none.jsonl")
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(ConfigurationError, match=r"empty\.jsonl: there is no message"):
        read_transcript(tmp_path / "empty.jsonl")
