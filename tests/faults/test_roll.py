"""Replicas of the version before and of this one take turns on one Redis, and know no difference."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from faults.roll import Found, roll, summary
from servers import versions
from servers.processes import popen
from servers.redis_sets import RedisCluster

WAYS = ("old to old", "old to new", "new to old", "new to new")


def run(
    new: Path | None,
    seconds: float = 0.4,
    *,
    kill: bool = False,
    commit: str = versions.BEFORE,
    cluster: bool = False,
    store: dict[str, Any] | None = None,
) -> Found:
    seed = int(os.environ.get("TICKETLOCK_SEED") or random.randrange(10**6))
    print(f"seed {seed}")
    how: dict[str, Any] = {"seconds": seconds, "kill": kill, "cluster": cluster, "store": store}
    found = roll(versions.before(commit), new, seed, **how)
    print(summary(found))
    return found


@pytest.mark.slow
@pytest.mark.quiet
@pytest.mark.parametrize(
    ("version", "kill"),
    [("0.1.0", False), ("0.6.0", False), ("0.8.0", True)],
    ids=["0.1.0-drained", "0.6.0-drained", "0.8.0-killed"],
)
def test_a_fleet_is_rolled_and_back(version: str, kill: bool) -> None:
    """No overlap, nothing lost, stopped without cause, handled twice or out of order."""
    # What a killed process held and waited for keeps all others waiting for a lease.
    step = float(os.environ.get("TICKETLOCK_ROLL_SECONDS") or (5 if kill else 1))
    found = run(None, step, kill=kill, commit=versions.COMMITS[version])
    assert not found.problems, found.examples
    # It has happened: hand-offs each way, by bells; stops, duplicates and broken turns.
    for way in WAYS:
        assert len(found.handed[way]) >= 10, way
        assert statistics.median(found.handed[way]) < 0.5, f"{way}: its bells are not heard"
    for what in ("stopped old", "stopped new", "broken turns", "messages"):
        assert found.figures[what] >= 5, what


@pytest.mark.slow
@pytest.mark.quiet
def test_a_fleet_on_a_cluster_is_rolled_and_back() -> None:
    """0.6.0 listens to no sharded channel, and rings none: each version rings the other."""
    seconds = float(os.environ.get("TICKETLOCK_ROLL_SECONDS") or 1)
    found = run(None, seconds, commit=versions.COMMITS["0.6.0"], cluster=True)
    assert not found.problems, found.examples
    for way in WAYS:
        assert len(found.handed[way]) >= 10, way
        assert statistics.median(found.handed[way]) < 0.5, f"{way}: its bells are not heard"


@pytest.mark.slow
@pytest.mark.quiet
def test_a_fleet_is_rolled_to_durability_and_back() -> None:
    """0.6.0 waits for nothing, and hands turns on to replicas of this version, which do."""
    keys = {"durability": "replicas", "durability_degraded": "refuse", "durability_timeout": 30}
    found = run(None, commit=versions.COMMITS["0.6.0"], store=keys)
    assert not found.problems, found.examples
    for way in WAYS:
        assert len(found.handed[way]) >= 10, way
        assert statistics.median(found.handed[way]) < 0.5, f"{way}: its bells are not heard"
    assert found.figures["waits"] > 20


@pytest.mark.slow
@pytest.mark.quiet
def test_the_inboxes_of_two_versions_on_a_cluster_ring_each_other() -> None:
    """Messages that one version accepts are served by the other at once, not with its next look.

    0.6.0 rings all nodes of a cluster for them, and this version one.
    """
    old = versions.before(versions.COMMITS["0.6.0"])
    worker = Path(__file__).with_name("inbox_roll_worker.py")
    with RedisCluster() as cluster, ExitStack() as stack:

        def start(role: str, prefix: str, version: Path | None) -> Any:
            process = popen(
                [sys.executable, str(worker), role, prefix, ",".join(cluster.endpoints)],
                stdout=subprocess.PIPE, text=True, env=versions.environment(version),
            )  # fmt: skip
            stack.enter_context(process)
            stack.callback(process.kill)
            return process.stdout

        ways = {"new to old": (None, old), "old to new": (old, None)}
        heard = {way: start("serve", way[:3], serves) for way, (_, serves) in ways.items()}
        for way, (accepts, _) in ways.items():
            assert heard[way].readline() == "ready\n"
            start("accept", way[:3], accepts)
        for way, lines in heard.items():
            delays = [float(lines.readline()) for _ in range(16)]
            assert statistics.median(delays) < 0.15, f"{way}: its bells are not heard: {delays}"


#: In front of a script: `redis.call` with an ear for what is written, and one for what is read.
CHANGE = """
local redis = setmetatable({{call = function(command, ...)
  local a = {{...}}
  {written}
  local answer = redis.call(command, unpack(a))
  {read}
  return answer
end}}, {{__index = redis}})
"""
#: What would be wrong with the next version -> its patch, and what the roll must find.
MISTAKES = {
    "a-fifth-word-in-the-grant-bell": (
        (
            "if command == 'PUBLISH' and string.sub(a[2], 1, 6) == 'grant '"
            " and not string.find(a[1], 'bell:p2', 1, true) then a[2] = a[2] .. ' c0ffee' end"
        ),
        "",
        {"stopped"},
    ),
    "another-form-of-the-holder": (
        "if command == 'SET' and string.find(a[2], '^%d+ %d+ ') then a[2] = a[2] .. ' x' end",
        (
            "if command == 'GET' and type(answer) == 'string' then"
            " answer = string.gsub(answer, ' x$', '') end"
        ),
        {"overlap", "turn lost", "fence twice", "out of order", "worker failed"},
    ),
    "another-form-of-an-answered-message": (
        (
            "if command == 'HSET' and string.sub(a[3] or '', 1, 2) == 'd ' then"
            " a[3] = 'D' .. string.sub(a[3], 2) end"
        ),
        (
            "if command == 'HGET' and string.sub(answer or '', 1, 2) == 'D ' then"
            " answer = 'd' .. string.sub(answer, 2) end"
        ),
        {"handled twice", "other reply"},
    ),
}


@pytest.mark.slow
@pytest.mark.quiet
@pytest.mark.parametrize("name", MISTAKES)
def test_a_roll_to_a_version_that_cannot_be_read_is_noticed(name: str, tmp_path: Path) -> None:
    """A change of bells, of the holder, or of messages that the version before does not know.

    From 0.1.0: later ones ask when a bell is not signed as it should be, and lose no turn by it.
    """
    written, read, expected = MISTAKES[name]
    patch = CHANGE.format(written=written, read=read)
    made = versions.changed(tmp_path, {"lua/[!o_t]*.lua": patch})
    found = run(made, commit=versions.COMMITS["0.1.0"])
    assert expected & set(found.problems), summary(found)


@pytest.mark.slow
@pytest.mark.quiet
def test_bells_that_the_other_version_does_not_hear_are_noticed(tmp_path: Path) -> None:
    """Turns go on by the heartbeat then, once a second: the median tells."""
    patch = CHANGE.format(written="if command == 'PUBLISH' then a[1] = a[1] .. 'x' end", read="")
    found = run(versions.changed(tmp_path, {"lua/[!o_t]*.lua": patch}))
    assert statistics.median(found.handed["new to old"]) > 0.1, summary(found)
