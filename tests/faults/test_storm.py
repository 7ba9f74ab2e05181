"""Many processes, one Redis, and everything that goes wrong at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import redis

from ticketlock.embedded import EmbeddedRedis

SECONDS = float(os.environ.get("TICKETLOCK_STORM_SECONDS", "60"))
WORKER = Path(__file__).with_name("worker.py")


class Fleet:
    """Worker processes, and the trouble they get; remembers who was ever stopped."""

    def __init__(self, url: str, records: str, count: int, tasks: int, names: list[str]) -> None:
        self.url, self.records, self.tasks, self.names = url, records, tasks, names
        self.end = time.monotonic() + SECONDS
        self.processes: list[subprocess.Popen[str]] = []
        self.killed: set[int] = set()
        self.stopped: set[int] = set()
        for _ in range(count):
            self.start()

    def start(self) -> None:
        left = max(0.5, self.end - time.monotonic())
        words = [self.url, self.records, str(left), str(len(self.processes)), str(self.tasks)]
        process = subprocess.Popen(
            [sys.executable, str(WORKER), *words, *self.names],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)

    def living(self) -> list[subprocess.Popen[str]]:
        return [process for process in self.processes if process.poll() is None]

    def trouble(self, rng: random.Random, client: redis.Redis) -> None:
        """One random fault."""
        victim = rng.choice(self.living())
        kind = rng.choice(["kill", "stop", "stop briefly", "client kill", "pause"])
        if kind == "kill":
            victim.kill()
            victim.wait()
            self.killed.add(victim.pid)
            self.start()
        elif kind.startswith("stop"):
            self.stopped.add(victim.pid)
            victim.send_signal(signal.SIGSTOP)
            time.sleep(6 if kind == "stop" else rng.uniform(0.1, 2))
            victim.send_signal(signal.SIGCONT)
        elif kind == "client kill":
            connections = client.client_list()
            for connection in rng.sample(connections, min(3, len(connections))):
                if connection["id"] != str(client.client_id()):
                    client.client_kill_filter(_id=connection["id"])
        else:
            client.client_pause(rng.randrange(50, 800))

    def finish(self) -> None:
        """Every survivor must come to its end: nobody is stuck."""
        for process in self.living():
            try:
                process.wait(max(1, self.end - time.monotonic()) + 20)
            except subprocess.TimeoutExpired:
                explain(process)
                raise AssertionError(f"worker {process.pid} is stuck: see its stacks") from None
        for process in self.processes:
            if process.pid not in self.killed:
                assert process.returncode == 0, f"worker {process.pid} failed"

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()


def explain(process: subprocess.Popen[str]) -> None:
    """Let a worker that is stuck print its stacks, which the test's report then has."""
    print(f"stacks of the threads, and then of the tasks, of {process.pid}:", file=sys.stderr)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        process.send_signal(number)
        time.sleep(1)  # it has nothing to say when it is done


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(300 + SECONDS)
@pytest.mark.parametrize(
    ("processes", "tasks", "conversations"), [(8, 3, 1), (4, 25, 200)], ids=["one", "many"]
)
def test_storm(own_redis: EmbeddedRedis, processes: int, tasks: int, conversations: int) -> None:
    """SIGKILL, SIGSTOP, CLIENT KILL, CLIENT PAUSE and cancellations, at random, for a minute."""
    seed = int(os.environ.get("TICKETLOCK_STORM_SEED", str(random.randrange(10_000))))
    print(f"seed {seed}")
    rng = random.Random(seed)
    names = [f"conversation {i} {{}}*" for i in range(conversations)]
    with EmbeddedRedis() as records:
        fleet = Fleet(own_redis.url, records.url, processes, tasks, names)
        client = redis.Redis.from_url(own_redis.url, decode_responses=True)
        notes_client = redis.Redis.from_url(records.url, decode_responses=True)
        try:
            while time.monotonic() < fleet.end - 7:
                time.sleep(rng.uniform(0.1, 0.8))
                fleet.trouble(rng, client)
            fleet.finish()
            notes = [json.loads(text) for text in notes_client.lrange("notes", 0, -1)]
            assert [note for note in notes if note["what"] == "overlap"] == []
            turns = sum(check_log(notes_client, name, fleet) for name in names)
            assert turns > 10 * SECONDS
            check_keys(client)
        finally:
            fleet.stop()
            client.close()
            notes_client.close()


def check_log(client: redis.Redis, name: str, fleet: Fleet) -> int:
    """Turns do not interleave, and are in ticket order among those never stopped; count them."""
    entries = [json.loads(text) for text in client.lrange(f"log:{name}", 0, -1)]
    accepted = [entry for entry in entries if not entry["refused"]]
    fences = [int(entry["f"]) for entry in accepted]
    assert fences == sorted(fences)
    begins = [int(entry["f"]) for entry in accepted if entry["e"] == "begin"]
    assert len(begins) == len(set(begins)), "two turns under one fence"
    last = 0
    for entry in accepted:
        if entry["e"] == "begin" and entry["p"] not in fleet.stopped:
            assert entry["n"] > last, f"ticket {entry['n']} was served after {last}"
            last = entry["n"]
    return len(begins)


def check_keys(client: redis.Redis) -> None:
    """What is left expires by itself, and no ticket is among it."""
    keys = list(client.scan_iter(count=1000))
    assert [key for key in keys if client.ttl(key) < 0] == []
    assert [key for key in keys if key.endswith(":queue")] == []
    for key in keys:
        if key.endswith(":holder"):
            assert client.get(key).isdigit(), "a finished conversation has a holder"
