"""`endpoints.yml`: variables, outlines, and errors that name file, line and way out."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ticketlock import ConcurrentRedisLockStore, ConfigurationError, Conversations
from ticketlock.endpoints import read_endpoints, write_endpoints


def write(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(text)
    return path


def test_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled in plain and quoted scalars, several in one, with defaults, and escaped."""
    monkeypatch.setenv("HOST", "redis-1")
    monkeypatch.setenv("EMPTY", "")
    path = write(
        tmp_path,
        """
        lock_store:
          type: concurrent_redis
          host: ${HOST}
          port: "${PORT:-7000}"
          password: 'a${HOST}b${EMPTY}$${HOST}$HOST'
          endpoints: ["${HOST}:1", "${NONE:-}x:2"]
        """,
    )
    section = read_endpoints(path).section("lock_store")
    assert section is not None
    assert section.type == "concurrent_redis"
    assert section.kwargs == {
        "host": "redis-1",
        "port": "7000",
        "password": "aredis-1b${HOST}$HOST",
        "endpoints": ["redis-1:1", "x:2"],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "lock_store:\n  type: redis\n  host: ${NOT_SET}\n",
            "line 3: environment variable NOT_SET",
        ),
        ("lock_store:\n  endpoints:\n    - a\n    - '${NOT_SET}'\n", "line 4: environment"),
        ("lock_store: [", "line 1"),
        ("a: b: c", "line 1"),
        ("lock_store: {host: [${H}, 1]}", "put quotes around"),
        ("lock_store: 3", "lock_store: is not a mapping"),
        ("- lock_store", "is not a mapping of sections"),
        ("lock_stor:\n  type: redis\n", "lock_stor: is not a section"),
        ("lock_store:\n  type: [a]\n", "lock_store: type:"),
        ("lock_store:\n  type: redis\n  type: sql\n", 'line 3: found duplicate key "type"; give'),
        (
            "lock_store:\ntype: redis\n",
            "type: is not a section; if it is a key of lock_store, indent",
        ),
        ("lock_store: redis\n", "lock_store: is not a mapping of settings, such as"),
    ],
)
def test_errors(tmp_path: Path, text: str, said: str) -> None:
    """Each names the file, and what is wrong where."""
    path = write(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_endpoints(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """Not an in-memory default."""
    with pytest.raises(ConfigurationError, match=r"none\.yml: not found in /"):
        Conversations.from_endpoints(tmp_path / "none.yml")


def test_no_text(tmp_path: Path) -> None:
    """A file that is no UTF-8."""
    path = tmp_path / "endpoints.yml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigurationError, match=r"cannot be read: .* byte 1: save it as UTF-8"):
        read_endpoints(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "lock_store:\n", "nlu:\n  url: x\n"])
def test_what_is_not_there_has_its_default(tmp_path: Path, text: str) -> None:
    """Empty files, empty sections, and sections of other programs."""
    conversations = Conversations.from_endpoints(write(tmp_path, text))
    assert type(conversations.lock_store).__name__ == "InMemoryLockStore"
    assert type(conversations.tracker_store).__name__ == "InMemoryTrackerStore"


def test_yaml_is_1_2(tmp_path: Path) -> None:
    """`no` is text and 0123 is a number, as documented."""
    path = write(tmp_path, "lock_store:\n  a: no\n  b: 0123\n  c: true\n  d: 1.5\n")
    section = read_endpoints(path).section("lock_store")
    assert section is not None
    assert section.kwargs == {"a": "no", "b": 123, "c": True, "d": 1.5}


def test_sections_become_stores(tmp_path: Path) -> None:
    """Their errors name the file and the section."""
    path = write(tmp_path, "lock_store:\n  type: concurrent_redis\n  url: h:7\n")
    conversations = Conversations.from_endpoints(path)
    assert isinstance(conversations.lock_store, ConcurrentRedisLockStore)
    assert conversations.lock_store.settings.port == 7
    bad = write(tmp_path, "lock_store:\n  type: concurrent_redis\n  prot: 7\n")
    with pytest.raises(ConfigurationError) as caught:
        Conversations.from_endpoints(bad)
    assert str(caught.value).startswith(f"{bad}: lock_store: prot: ")


VALUES = st.recursive(
    st.text(st.characters(exclude_categories=["Cs"]))
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.booleans()
    | st.sampled_from(["${HOME}", "$${HOME}", "a${X:-b}c$", "yes", "012", "1e3", "2026-01-01"]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc_", min_size=1), inner),
    max_leaves=10,  # the YAML parser is slow
)


@settings(max_examples=30)
@given(
    st.dictionaries(st.text("abc", min_size=1).filter(lambda key: key != "url"), VALUES, max_size=4)
)
def test_what_is_written_is_read_again(values: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "endpoints.yml")
        write_endpoints(path, {"server": values})
        assert path.stat().st_mode & 0o777 == 0o600
        found = read_endpoints(path).section("server")
        assert found is not None
        assert found.kwargs == values
        with pytest.raises(FileExistsError):
            write_endpoints(path, {})


def test_variables_of_what_is_not_used_need_not_be_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A section of Rasa is not read at all."""
    monkeypatch.delenv("A_TOKEN", raising=False)
    path = tmp_path / "endpoints.yml"
    path.write_text("nlg: {url: '${A_TOKEN}'}\nlock_store: {type: in_memory}\n")
    assert [*read_endpoints(path).unused] == ["nlg"]
    path.write_text("lock_store: {type: '${A_TOKEN}'}\n")
    with pytest.raises(ConfigurationError, match="line 1: environment variable A_TOKEN"):
        read_endpoints(path)


def test_keys_of_rasa_pro(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What changes nothing is named; what would publish more than it says is refused."""
    caplog.set_level("INFO")
    path = tmp_path / "endpoints.yml"
    broker = "event_broker: {type: file, path: x, stream_pii: PII, anonymization_topics: [a]}\n"
    path.write_text(broker.replace("PII", "true") + "tracing: {type: jaeger}\nprivacy: {}\n")
    found = read_endpoints(path)
    keys = ["event_broker.stream_pii", "event_broker.anonymization_topics"]
    assert [*found.unused] == ["tracing", "privacy", *keys]
    assert "not used by ticketlock: tracing, privacy, event_broker.stream_pii" in caplog.text
    section = found.section("event_broker")
    assert section is not None
    assert section.kwargs == {"path": "x"}
    for no in ("false", "'off'"):
        path.write_text(broker.replace("PII", no))
        with pytest.raises(ConfigurationError, match="stream_pii: false is not supported"):
            read_endpoints(path)


def test_a_variable_that_must_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing and empty are errors that name it and say what to do; a value is taken."""
    path = tmp_path / "endpoints.yml"
    path.write_text("server:\n  auth_token: ${A_TOKEN:?make one}\n  admin_token: ${A_TOKEN:?}\n")
    monkeypatch.delenv("A_TOKEN", raising=False)
    with pytest.raises(ConfigurationError, match=r"line 2: .*A_TOKEN is not set, or empty: make o"):
        read_endpoints(path)
    monkeypatch.setenv("A_TOKEN", "")
    with pytest.raises(ConfigurationError, match="A_TOKEN is not set, or empty"):
        read_endpoints(path)
    monkeypatch.setenv("A_TOKEN", "given")
    section = read_endpoints(path).section("server")
    assert section is not None
    assert section.kwargs == {"auth_token": "given", "admin_token": "given"}
