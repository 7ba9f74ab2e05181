"""The doctor's tables, and what a server that cannot be had here would answer."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest

from ticketlock import cli
from ticketlock.cli import top
from ticketlock.doctor import kafka, mongo, sql
from ticketlock.doctor.redis import memory, persistence, timing, versions
from ticketlock.doctor.redis.cluster import Cluster, Node
from ticketlock.doctor.redis.server import Server


def server(**info: str) -> Server:
    """A server that has answered, and to which there is no connection."""
    return Server("s:1", cast("Any", None), info=info)


@pytest.mark.parametrize(
    ("info", "tls", "names"),
    [
        ({"redis_version": "6.2.19"}, False, ["CVE-2025-49844"]),
        ({"redis_version": "6.2.20"}, False, []),
        ({"redis_version": "6.2.23"}, True, ["CVE-2026-81934"]),
        ({"redis_version": "7.0.15"}, False,
         ["CVE-2025-49844", "CVE-2026-23631"]),  # a line that got no fix
        ({"redis_version": "7.2.13"}, False, ["CVE-2026-23479", "CVE-2026-23631"]),
        ({"redis_version": "8.2.1"}, False, ["CVE-2025-49844", "CVE-2026-23479", "CVE-2026-23631"]),
        ({"redis_version": "8.6.3"}, False, []),
        ({"redis_version": "8.10.2"}, True, []),
        ({"redis_version": "9.0.0"}, True, []),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.2"}, True, []),
        ({"redis_version": "7.2.4", "valkey_version": "9.1.1"}, False, ["GHSA-fq2f-crmw-q97r"]),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.4"}, True, ["CVE-2026-56684"]),
        ({"redis_version": "7.2.4", "valkey_version": "8.1.3"}, False,
         ["CVE-2025-49844", "CVE-2025-67733", "CVE-2026-23479", "CVE-2026-23631"]),
        ({"redis_version": "7.2.0", "dragonfly_version": "df-v1.20.0"}, False, []),
        ({}, True, []),
    ],
)  # fmt: skip
def test_faults_of_versions(info: dict[str, str], tls: bool, names: list[str]) -> None:
    """By the patch of its line; a line between two that were mended never was."""
    found = [*versions.version(server(**info), tls)]
    assert len(found) == bool(names)
    listed = {known.name for known in versions.KNOWN if found and known.name in found[0].what}
    assert listed == set(names)


def test_what_to_upgrade_to() -> None:
    """The newest of the patches that a line needs, or another line."""
    (finding,) = versions.version(server(redis_version="8.2.1"), False)
    assert "upgrade to 8.2.6 or newer" in finding.do
    (finding,) = versions.version(server(redis_version="7.0.15"), False)
    assert "still maintained" in finding.do


@pytest.mark.parametrize(
    ("policy", "name"),
    [
        ("allkeys-lrm", "redis-eviction"),  # since Redis 8.6
        ("volatile-lrm", "redis-eviction-volatile"),
        ("noeviction", None),
    ],
)
def test_new_policies(policy: str, name: str | None) -> None:
    """Those that no server here knows yet."""
    one = server()
    one.config = {"maxmemory-policy": policy, "maxmemory": "1000"}
    assert [finding.name for finding in memory.eviction(one)] == ([name] if name else [])


def test_persistence_without_info() -> None:
    """A user may have the right to read settings alone."""
    one = server()
    one.config = {"appendonly": "no", "save": ""}
    assert [found.name for found in persistence.persistence(one, False)] == ["redis-persistence"]
    one.config["appendonly"] = "yes"
    assert [*persistence.persistence(one, False)] == []


def test_clocks_of_nodes() -> None:
    """Those of two servers differ from each other; where all agree, they are held against ours."""
    first, second = server(), server()
    second.place = "s:2"
    first.offset, second.offset = 0.0, 0.4
    assert [*timing.clocks([first, second])] == []
    second.offset = -3.0
    (finding,) = timing.clocks([first, second])
    assert finding.what == "the clock of s:1 is 3.0 s ahead of that of s:2"
    first.offset = -3.2
    (finding,) = timing.clocks([first, second])
    assert "3.0 s behind ours" in finding.what
    first.offset = second.offset = None
    assert [*timing.clocks([first, second])] == []


def test_a_node_as_another_sees_it() -> None:
    assert Node(("a", 1), frozenset({"master", "fail"})).down
    assert not Node(("a", 1), frozenset({"myself", "master"})).down
    cluster = Cluster()
    cluster.info, cluster.nodes = {}, []
    cluster.owners = [("a", 1), ("b", 1), ("c", 1)]
    assert [*cluster.findings()] == []


MOUNTS = r"""
21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
40 21 0:35 / /srv/shared\040data rw,relatime shared:9 - nfs4 files:/data rw,vers=4.2
41 40 0:36 / /srv/shared\040data/local rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/shared data/bot.db", "nfs4"),
        ("/srv/shared data/local/bot.db", None),
        ("/srv/bot.db", None),
        (":memory:", None),
    ],
)
def test_a_file_on_another_machine(path: str, kind: str | None, tmp_path: Path) -> None:
    """By the innermost mounted file system; a real network file system cannot be had here."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS.lstrip())
    found = [*sql.network(path, mounts)]
    assert len(found) == bool(kind)
    for finding in found:
        assert finding.name == "sqlite-network"
        assert f"of type {kind}" in finding.what
    assert [*sql.network("/srv/bot.db", tmp_path / "not Linux")] == []


@pytest.mark.parametrize(
    ("hello", "said"),
    [
        ({"ok": 1.0}, "a standalone server"),
        ({"setName": "rs", "hosts": ["a:1"]}, "a replica set of one member"),
        ({"setName": "rs", "hosts": ["a:1", "b:1", "c:1"]}, None),
        ({"msg": "isdbgrid"}, None),
    ],
)
def test_forms_of_mongodb(hello: dict[str, Any], said: str | None) -> None:
    """A replica set of several members cannot be had here."""
    assert [finding.what for finding in mongo.alone(hello)] == ([f"it is {said}"] if said else [])


@pytest.mark.parametrize(
    ("copies", "least", "names"),
    [
        ([(3, 3), (3, 3)], "2", []),
        ([(3, 3), (3, 1)], "2", ["kafka-in-sync"]),
        ([(3, 3)], "1", ["kafka-min-insync"]),
        ([(1, 1)], "1", ["kafka-copies"]),
        ([(1, 1)], "2", ["kafka-in-sync", "kafka-copies"]),
    ],
)
def test_copies_of_a_topic(copies: list[tuple[int, int]], least: str, names: list[str]) -> None:
    """Several brokers cannot be had here."""
    found = kafka.replication("events", copies, {"min.insync.replicas": least})
    assert [finding.name for finding in found] == names


def test_databases_that_are_not_careful() -> None:
    """A standby, and a server without fsync: its settings are given when it starts."""
    assert [*sql.read_only({"standby": "False", "read_only": "off"})] == []
    assert [one.name for one in sql.read_only({"standby": "True"})] == ["sql-read-only"]
    assert [*sql.durability({"fsync": "on", "synchronous_commit": "on"})] == []
    assert [one.what for one in sql.durability({"fsync": "off"})] == ["fsync is off"]


def test_what_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A head for each server, its findings with aligned words, and the count; no colour in a file."""
    path = tmp_path / "endpoints.yml"
    path.write_text(
        f"lock_store: {{type: in_memory}}\ntracker_store: {{db: {tmp_path}/a.db, type: sql}}\n"
    )
    assert cli.main(["doctor", "--endpoints", str(path)]) == cli.EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert f"SQLite file {tmp_path}/a.db (tracker_store)" in lines
    assert "this process (lock_store)" in lines
    assert "  warning   section-warning" in lines
    assert [line[:18] for line in lines if "  why  " in line] == ["            why   "]
    assert lines[-1] == "1 warning"
    assert "\x1b" not in "".join(lines)
    accepting = ["doctor", "--endpoints", str(path), "--accept", "section-warning"]
    assert cli.main(accepting) == cli.EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert "  accepted  section-warning" in lines
    assert lines[-1] == "1 accepted"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("section-warnin", "is not a finding; did you mean section-warning?"),
        ("unreachable", "cannot be accepted: replicas need that server"),
    ],
)
def test_what_cannot_be_accepted(name: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["doctor", "--accept", name])
    assert caught.value.code == cli.EXIT_BAD_INPUT
    assert says in capsys.readouterr().err


def test_a_file_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = str(tmp_path / "missing.yml")
    assert cli.main(["doctor", "--endpoints", missing]) == cli.EXIT_BAD_INPUT
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize(
    ("variable", "value", "coloured"),
    [("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)],
)
def test_what_is_printed_on_a_terminal(
    variable: str, value: str, coloured: bool, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In its width, but for what is to be typed; with colours unless they are not wanted."""
    path = tmp_path / "endpoints.yml"
    path.write_text("lock_store: {type: in_memory}\n")
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, text in (("TERM", "xterm"), ("COLUMNS", "60"), (variable, value)):
        monkeypatch.setenv(name, text)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert top.is_redrawn() is (value != "dumb")
    assert cli.main(["doctor", "--endpoints", str(path)]) == cli.EXIT_FAILED
    said = capsys.readouterr().out
    assert ("\x1b[33mwarning" in said) is coloured
    lines = [line for line in said.splitlines() if "  do  " not in line]
    assert max(map(len, lines)) <= 60
