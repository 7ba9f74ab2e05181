"""(p) Bursts at two replicas: of a real Rasa, of the same with our lock store, of `ticketlock run`.

Rasa answers with a rule and a response, ours echoes: neither calls an action server. All have
their locks and histories on one Redis.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..bench import Bench
from ..rows import Bar, Rows, table
from ..stores import of_tests

TITLE = "bursts at two replicas, beside Rasa"
RASA, LOCKS, OURS = "Rasa", "Rasa, our lock store", "ticketlock run"
#: Conversations, and messages of each, all at once.
BURSTS = {
    "16 messages, 1 conversation": (1, 16),
    "128 messages, 16 conversations": (16, 8),
    "128 messages, 128 conversations": (128, 1),
}
#: Seconds for an answer; and for all replicas to start, for Rasa imports TensorFlow.
PATIENCE, START = 45, 240
#: Prints what is installed.
_VERSIONS = """
from importlib.metadata import distributions
from platform import python_version
found = {one.metadata["Name"]: one.version for one in distributions()}
names = [name for name in ("rasa", "ticketlock", "redis") if name in found]
print(*(f"{name} {found[name]}," for name in names), "Python", python_version())
"""


class Replica:
    """A server process, until the stack is closed, and its port, which is added to the command."""

    def __init__(
        self, command: list[str], folder: Path, env: dict[str, str] | None, stack: ExitStack
    ) -> None:
        processes = of_tests("servers.processes")
        self.port: int = processes.free_port()
        self._log = folder / f"{self.port}.log"
        with self._log.open("wb") as log:
            self._process: subprocess.Popen[bytes] = processes.popen(
                [*command, "--port", str(self.port)],
                cwd=folder, env=env, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip
        stack.callback(self._process.wait)
        stack.callback(self._process.kill)  # before that

    def wait(self) -> None:
        """Wait until it answers a message. Raises RuntimeError with what it said."""
        end = time.monotonic() + START
        while not asyncio.run(answered(self.port, f"first-{self.port}", text(0))):
            if self._process.poll() is not None or time.monotonic() > end:
                said = self._log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"a replica did not start: {said}")
            time.sleep(0.2)


def text(count: int) -> str:
    return f'/greet{{"n": "{count}"}}'


async def ask(port: int, path: str, body: dict[str, str] | None = None) -> Any:
    """What a replica answers. Raises OSError, EOFError; RuntimeError where that is not 200."""
    sent = json.dumps(body).encode() if body else b""
    head = f"{'POST' if body else 'GET'} {path} HTTP/1.1\r\nhost: localhost\r\n"
    head += f"connection: close\r\ncontent-type: application/json\r\ncontent-length: {len(sent)}"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{head}\r\n\r\n".encode() + sent)
        status = await reader.readuntil(b"\r\n\r\n")
        found = await reader.read()  # the replica closes the connection
    finally:
        writer.close()
    if not status.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"answered {status[:40]!r}: {found[:200]!r}")
    return json.loads(found)


async def answered(port: int, sender: str, message: str) -> bool:
    """Send a message; whether its reply came, in time."""
    body = {"sender": sender, "message": message}
    try:
        replies = await asyncio.wait_for(ask(port, "/webhooks/rest/webhook", body), PATIENCE)
    except (OSError, EOFError, RuntimeError, asyncio.TimeoutError):
        return False
    return len(replies) == 1


async def burst(ports: list[int], name: str, conversations: int, each: int) -> dict[str, float]:
    """All messages at once, those of a conversation at alternating replicas.

    `seconds`: until the last is answered, or has failed. `unanswered`: without a reply. `lost`:
    not in the history.
    """
    texts = [text(count) for count in range(each)]
    senders = [f"{name}-{which}" for which in range(conversations)]
    began = time.perf_counter()
    good = await asyncio.gather(
        *(
            answered(ports[(place + count) % len(ports)], sender, message)
            for count, message in enumerate(texts)
            for place, sender in enumerate(senders)
        )
    )
    seconds, lost = time.perf_counter() - began, 0
    for sender in senders:
        path = f"/conversations/{sender}/tracker?include_events=ALL"
        history = await asyncio.wait_for(ask(ports[0], path), PATIENCE)
        lost += len(set(texts) - {event.get("text") for event in history["events"]})
    return {"seconds": seconds, "unanswered": good.count(False), "lost": lost}


def run(bench: Bench) -> None:
    environment = of_tests("inside_rasa.environment")
    rasa: Path = environment.FOLDER / "bin" / "rasa"
    if not rasa.exists():
        print("NOT RUN: no Rasa here, `make rasa` installs it", end=" ", file=sys.stderr)
        return
    url, env, kinds = bench.server(), environment.environ(), of_tests("inside_rasa.kinds").KINDS
    of_rasa = [str(rasa), "run", "--enable-api", "--interface", "127.0.0.1"]
    of_rasa += ["--model", str(environment.model(rasa))]
    ours = [sys.executable, "-m", "ticketlock", "run"]
    sections = {"lock_store": {"type": "concurrent_redis"}, "tracker_store": {"type": "redis"}}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stock, locks = (stack.enter_context(kinds[name]()) for name in ("stock", "locks"))
        fleets = {
            RASA: (of_rasa, stock.sections(urlsplit(url).port), env),
            LOCKS: (of_rasa, locks.sections(urlsplit(url).port), env),
            OURS: (ours, {name: {**one, "url": url} for name, one in sections.items()}, None),
        }
        replicas: dict[str, list[Replica]] = {}
        for peer, (command, content, variables) in fleets.items():
            file = folder / f"{len(replicas)}.yml"
            file.write_text(json.dumps(content))  # JSON is YAML
            words = [*command, "--endpoints", str(file)]
            replicas[peer] = [Replica(words, folder, variables, stack) for _ in range(2)]
        for one in chain(*replicas.values()):
            one.wait()
        for peer in (RASA, OURS):
            python = sys.executable if peer == OURS else str(rasa.with_name("python"))
            bench.add(peer, "versions", versions=_versions(python, fleets[peer][2]))
        for round_, peer in bench.turns(list(fleets), bench.pick(1, 3)):
            ports = [one.port for one in replicas[peer]]
            for x, (conversations, each) in BURSTS.items():
                name = f"{ports[0]}-{round_}-{each}"
                found = asyncio.run(burst(ports, name, conversations, each))
                bench.add(peer, x, round=round_, **found)


def _versions(python: str, env: dict[str, str] | None) -> str:
    words = [python, "-c", _VERSIONS]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=True).stdout.strip()


def report(rows: Rows) -> str:
    if not rows.peers():
        return "Not run: there was no Rasa."
    head = ["seconds; messages without a reply, and not in the history", *BURSTS]
    lines = [
        [
            peer,
            *(f"{rows.cell(peer, 'seconds', x, True)}; {_missing(rows, peer, x)}" for x in BURSTS),
        ]
        for peer in (RASA, LOCKS, OURS)
    ]
    said = (f"{peer}: {rows.cell(peer, 'versions', 'versions')}." for peer in (RASA, OURS))
    return f"{table(head, lines)}\n\n{' '.join(said)}"


def _missing(rows: Rows, peer: str, x: str) -> str:
    """Of all rounds."""
    unanswered, lost = (rows.values(peer, key, x) for key in ("unanswered", "lost"))
    return f"{sum(unanswered)}, {sum(lost)} of {len(lost) * BURSTS[x][0] * BURSTS[x][1]}"


def bars(rows: Rows) -> list[Bar]:
    found = []
    for peer in (LOCKS, OURS):
        values = [rows.values(peer, key, x) for key in ("unanswered", "lost") for x in BURSTS]
        count = sum(map(sum, values)) if rows.peers() else None
        found.append(Bar(f"{peer}: messages without a reply or lost", count, 0))
        for x in BURSTS:
            ratio = rows.ratio(peer, RASA, "seconds", x)
            found.append(Bar(f"{x}: {peer}, seconds by Rasa's", ratio, 1))
    return found
