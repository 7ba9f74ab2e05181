"""A fleet of lock users that is rolled from one version to another and back, and the verdict.

No server is in trouble here: whatever is lost, stopped or out of order, the two versions did.
"""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis
from servers.redis_sets import RedisCluster
from servers.replicated import Replicated
from servers.versions import environment

from ticketlock.redis.embedded import EmbeddedRedis

WORKER = Path(__file__).with_name("roll_worker.py")
#: Two with several waiters at any time, and some that are often free.
NAMES = ("busy {}*", "busy %", "c1", "c2", "c3", "c4", "c5", "c6")
Note = dict[str, Any]


@dataclass
class Found:
    """What a run has shown.

    Attributes:
        problems: kind -> how often; empty is the verdict "good".
        examples: the first of them, in words.
        handed: "old to new" and so on -> seconds between the turns, where the next one waited.
        figures: more counts.
    """

    problems: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    handed: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    figures: Counter[str] = field(default_factory=Counter)

    def blame(self, kind: str, example: object) -> None:
        self.problems[kind] += 1
        if self.problems[kind] <= 3:
            self.examples.append(f"{kind}: {example}")


def roll(
    old: Path | None,
    new: Path | None,
    seed: int,
    *,
    replicas: int = 2,
    seconds: float = 1,
    kill: bool = False,
    cluster: bool = False,
    store: dict[str, Any] | None = None,
) -> Found:
    """Roll a fleet from the old version to the new one and back; `seconds` between restarts.

    Args:
        kill: replicas that are replaced are killed, instead of ending what they have begun.
        cluster: on a cluster of three masters.
        store: more keys for the lock store of the new version; the server has a replica then.
    """
    with ExitStack() as stack:
        records = stack.enter_context(EmbeddedRedis())
        if cluster:
            made = stack.enter_context(RedisCluster())
            nodes, where = made.servers, ",".join(made.endpoints)
        else:
            alone = stack.enter_context(Replicated(0 if store is None else 1))
            nodes, where = [alone.master], alone.master.url
        fleet = _Fleet(where, records.url, {"old": old, "new": new}, seed, store or {})
        try:
            running = [fleet.start("old") for _ in range(replicas)]
            for version in ("new", "old"):
                for place in range(replicas):
                    time.sleep(seconds)
                    before, running[place] = running[place], fleet.start(version)
                    fleet.kill(before) if kill else fleet.end(before)
            time.sleep(seconds)
            for process in running:
                process.terminate()
            for process in running:
                fleet.end(process, terminate=False)
        finally:
            fleet.stop()
        with redis.Redis.from_url(records.url, decode_responses=True) as client:
            found = judge(client, fleet.killed)
        for failure in fleet.failures:
            found.blame("worker failed", failure)
        for node in nodes:
            url = node.url.rpartition("/")[0] if cluster else node.url
            with redis.Redis.from_url(url, decode_responses=True) as client:
                for key in client.scan_iter(match="*:queue"):
                    found.blame("left over", key)
                found.figures["waits"] += (
                    client.info("commandstats").get("cmdstat_wait", {}).get("calls", 0)
                )
    return found


class _Fleet:
    def __init__(
        self, locks: str, records: str, versions: dict[str, Path | None], seed: int,
        store: dict[str, Any],
    ) -> None:  # fmt: skip
        self._words = [sys.executable, str(WORKER), locks, records]
        self._versions, self._seed, self._store = versions, seed, store
        self._processes: list[subprocess.Popen[str]] = []
        self.failures: list[str] = []
        self.killed: set[int] = set()

    def start(self, version: str) -> subprocess.Popen[str]:
        """Start a worker, and return when it works."""
        words = [*self._words, version, f"{self._seed}-{len(self._processes)}", *NAMES]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env={**environment(self._versions[version]), "NEW_STORE": json.dumps(self._store)},
        )  # fmt: skip
        self._processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", f"a worker of the {version} one fails"
        return process

    def end(self, process: subprocess.Popen[str], *, terminate: bool = True) -> None:
        """Ask a worker to end, and wait until it has done what it began."""
        if terminate:
            process.terminate()
        try:
            status = process.wait(60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)  # its stacks, to our standard error
            time.sleep(0.5)
            self.failures.append(f"{process.args[4:6]} does not come to an end")
            return
        if status:
            self.failures.append(f"{process.args[4:6]} ended with {status}")

    def kill(self, process: subprocess.Popen[str]) -> None:
        process.kill()
        process.wait()
        self.killed.add(process.pid)

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def judge(client: redis.Redis, killed: set[int]) -> Found:
    """The verdict on what the workers have recorded, some of which were killed."""
    found = Found()
    notes: dict[str, list[Note]] = defaultdict(list)
    for text in client.lrange("notes", 0, -1):
        note = json.loads(text)
        notes[note["what"]].append(note)
    broken = {note["f"] for note in notes["breaks"]}
    superseding: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for note in notes["supersedes"]:
        superseding[note["c"]].append((note["n"], note["mode"]))
    for note in notes["lost"]:
        if note["f"] not in broken:
            found.blame("turn lost", note)
    begun = {
        (name, entry["f"])
        for name in NAMES
        for entry in _log(client, name)
        if entry["e"] == "begin"
    }
    # One that was broken before its body began has its turn again, later.
    early = {
        (note["c"], note["n"]) for note in notes["broke"] if (note["c"], note["f"]) not in begun
    }
    found.figures["broken turns"] = len({note["f"] for note in notes["broke"]})
    replies: dict[tuple[str, str], set[str]] = defaultdict(set)
    for note in notes["reply"]:
        if note["reply"].rpartition(" ")[2] in broken:
            found.figures["replies of broken turns"] += 1
        else:
            replies[note["c"], note["m"]].add(note["reply"])
    # A process that was killed may have asked turns to stop, and not have noted its ticket. And a
    # duplicate, that needed none, takes one when the process that had its message is killed.
    unnoted = Counter((n["p"], n["c"], n["mode"]) for n in notes["means to"] if n["p"] in killed)
    unnoted.subtract((n["p"], n["c"], n["mode"]) for n in notes["has meant to"] if n["n"])
    for (_, conversation, mode), count in unnoted.items():
        if count > 0:
            superseding[conversation].append((sys.maxsize, mode))
    for note in notes["has meant to"] if killed else ():
        if not note["n"]:
            superseding[note["c"]].append((sys.maxsize, note["mode"]))
    for name in NAMES:
        entries = _log(client, name)
        _judge_order(found, name, entries, broken, early)
        _judge_stops(found, name, entries, superseding[name])
        # What was handled may not have been answered by a turn that was killed, or broken.
        kept = [e for e in entries if e["p"] not in killed and e["f"] not in broken]
        _judge_messages(found, name, kept, replies)
        for kind in {mode for _, mode in superseding[name]}:
            found.figures[f"tickets that {kind}"] += sum(
                mode == kind for _, mode in superseding[name]
            )
    for version in ("old", "new"):
        places = {note["where"] for note in notes["runs"] if note["v"] == version}
        assert len(places) == 1, places
    return found


def _log(client: redis.Redis, name: str) -> list[Note]:
    return [json.loads(text) for text in client.lrange(f"log:{name}", 0, -1)]


def _judge_order(
    found: Found, name: str, entries: list[Note], broken: set[str], early: set[tuple[str, int]]
) -> None:
    """One turn after the other, in the order of their tickets, under growing fences."""
    last: Note = {"n": 0, "f": "0"}
    ended: Note | None = None
    for entry in entries:
        fence = entry["f"]
        if entry["refused"]:
            if fence not in broken:
                found.blame("overlap", (name, entry, last))
        elif entry["e"] == "begin":
            if int(fence) <= int(last["f"]):
                found.blame("fence twice", (name, entry, last))
            if entry["n"] <= last["n"] and (name, entry["n"]) not in early:
                found.blame("out of order", (name, entry, last))
            if ended is not None and entry["since"] < ended["t"]:
                found.handed[f"{ended['v']} to {entry['v']}"].append(entry["t"] - ended["t"])
            last, ended = entry, None
            found.figures["turns"] += 1
        elif fence == last["f"]:
            ended = entry


def _judge_stops(
    found: Found, name: str, entries: list[Note], superseding: list[tuple[int, str]]
) -> None:
    """A turn is asked to stop by a later ticket only, in a mode that one asked for."""
    for entry in entries:
        if entry["e"] == "end" and entry["stop"]:
            found.figures[f"stopped {entry['v']}"] += 1
            if not any(n > entry["n"] and mode == entry["stop"] for n, mode in superseding):
                found.blame("stopped", (name, entry))


def _judge_messages(
    found: Found,
    name: str,
    entries: list[Note],
    replies: dict[tuple[str, str], set[str]],
) -> None:
    """Each message is handled once, and its callers have the same reply."""
    handled: Counter[str] = Counter()
    for entry in entries:
        if entry["e"] == "end" and not entry["refused"]:
            handled.update(entry["m"])
    for message, times in handled.items():
        if times > 1:
            found.blame("handled twice", (name, message, times))
    for (conversation, message), texts in replies.items():
        if conversation == name:
            found.figures["messages"] += 1
            if len(texts) > 1:
                found.blame("other reply", (name, message, texts))


def summary(found: Found) -> str:
    """In lines, for a log."""
    lines = [f"{key}: {value}" for key, value in sorted(found.figures.items())]
    for way, times in sorted(found.handed.items()):
        lines.append(f"{way}: {len(times)} times, median {1000 * statistics.median(times):.1f} ms")
    return "\n".join([*lines, f"problems: {dict(found.problems)}", *found.examples])
