"""`ticketlock stress`: what it refuses before anything is started, and histories that it judges."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ticketlock import cli
from ticketlock.checker import History, Operation
from ticketlock.cli import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_OK


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--key-prefix x", "--key-prefix is for the server of --endpoints"),
        ("--seconds 100000", "lower --seconds or --rate"),
        ("--seconds 0", "0 is not above 0"),
        ("--history no/such.jsonl", "the folder does not exist"),
        ("--timeline no/such.html", "--timeline: no/such.html: the folder does not exist"),
        (
            "--endpoints redis.yml --key-prefix bots",
            "'bots' is the key_prefix of redis.yml: lock_store",
        ),
        ("--nemesis fire", "--nemesis: 'fire' is not one of kill, stop"),
        ("--nemesis kill --endpoints redis.yml", "leave out --endpoints"),
        ("--topology cluster --endpoints redis.yml", "--topology is for servers of the run"),
        ("--server-program no/redis --endpoints redis.yml", "--server-program is for servers of"),
        ("--min-replicas 1 --endpoints redis.yml", "--min-replicas is for servers of the run"),
        ("--durability aof --endpoints redis.yml", "--durability is for servers of the run"),
        ("--durability-degraded serve --endpoints redis.yml", "--durability-degraded is for"),
        ("--durability majority", "needs deployment_mode sentinel or cluster"),
        ("--durability replicas", "1 must acknowledge, but a master of --topology server has 0"),
        (
            "--topology cluster --durability replicas --durability-replicas 2",
            "2 must acknowledge, but",
        ),
        ("--durability-degraded refuse", "durability_degraded: does nothing without durability"),
        ("--nemesis failover", "--nemesis: 'failover' is for --topology cluster or sentinel"),
        ("--topology cluster --nemesis disk", "'disk' is for --topology server"),
        ("--server-program no/redis", "--server-program: no/redis: No such file"),
        ("--server-program /bin/true", "/bin/true is not a Redis or Valkey server"),
        ("--check none.jsonl", "none.jsonl cannot be read"),
        ("--check a --history b", "--check only reads files: leave out --history"),
        ("--check a --endpoints redis.yml --yes", "leave out --endpoints, --yes"),
        ("--check a --messages --nemesis kill", "leave out --messages, --nemesis"),
        ("--endpoints memory.yml --yes", "stress needs a lock store on Redis"),
        ("--endpoints empty.yml --yes", "empty.yml: lock_store: is missing"),
    ],
)
def test_what_cannot_be_done_is_said(
    words: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("memory.yml").write_text("lock_store: {type: in_memory}\n")
    Path("redis.yml").write_text("lock_store: {type: concurrent_redis, key_prefix: bots}\n")
    Path("empty.yml").write_text("{}\n")
    try:
        status = cli.main(["stress", *words.split()])
    except SystemExit as left:  # argparse
        status = int(left.code or 0)
    assert status == EXIT_BAD_INPUT
    assert said in capsys.readouterr().err


def test_a_history_is_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    operations = [
        Operation("acquire", "a", "anna", 1, 1, "ok"), Operation("release", "a", "anna", 2, 2, "ok"),
    ]  # fmt: skip
    path = tmp_path / "history.jsonl"
    History(operations).write(path)
    page = tmp_path / "page.html"
    assert cli.main(["stress", "--check", str(path), "--timeline", str(page)]) == EXIT_OK
    assert not page.exists()
    assert "overlap       0" in capsys.readouterr().out
    thieves = [Operation("acquire", f"b{place}", "anna", 1.5, 1.5, "ok") for place in range(12)]
    more = tmp_path / "more.jsonl"
    History(thieves).write(more)
    assert cli.main(["stress", "--json", "--check", str(path), str(more)]) == EXIT_FAILED
    assert json.loads(capsys.readouterr().out)["violations"]["overlap"] == 12
    words = ["stress", "--check", str(path), str(more), "--timeline", str(page)]
    assert cli.main(words) == EXIT_FAILED
    assert page.read_text().count("<svg") == 12
    said = capsys.readouterr().err
    for suffix, begin in ((".svg", b"<svg"), (".png", b"\x89PNG")):
        one = page.with_suffix(suffix)
        words[-1] = str(one)
        assert cli.main(words) == EXIT_FAILED
        assert one.read_bytes().startswith(begin)
    assert said.count("overlap: conversation 'anna'") == 10
    assert "... and 2 more" in said
