"""Replicas of the bot server: `ticketlock run` as processes."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from .processes import child, free_port

#: The keys of the section `server` for each parser and event loop.
ENGINES = {
    "h11": {"http": "h11", "loop": "asyncio"},
    "httptools": {"http": "httptools", "loop": "uvloop"},
}

#: A bot that echoes, after as many seconds as the message says in its metadata.
BOT = """
import asyncio

async def bot(turn, message):
    yield f"begun: {message.text}"
    await asyncio.sleep(message.metadata.get("seconds", 0))
    yield f"done: {message.text}"
"""


def write_files(folder: Path, redis_url: str, **server: object) -> Path:
    """An endpoints.yml with Redis and SQLite, and the module `slow_bot` beside it.

    Each folder is a deployment of its own: replicas with one prefix serve each other's messages.
    """
    (folder / "slow_bot.py").write_text(BOT)
    keys = "".join(f"  {key}: {value}\n" for key, value in server.items()) or "  {}\n"
    path = folder / "endpoints.yml"
    path.write_text(
        f"lock_store:\n  type: concurrent_redis\n  url: {redis_url}\n"
        f"  key_prefix: {''.join(filter(str.isalnum, folder.name))}\n"
        f"tracker_store:\n  type: sql\n  db: {folder}/bot.db\n"
        f"server:\n{keys}"
    )
    return path


class Replica:
    """One process.

    Attributes:
        url: where it is.
        folder: where its files are.
        process: it has the exit status once it has ended.
    """

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.process = process
        self.folder = log.parent
        self._log = log

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def replicas(
    folder: Path, *each: list[str], env: Mapping[str, str] | None = None
) -> Iterator[list[Replica]]:
    """Replicas that answer, one for each list of more words; SIGTERM ends those that live.

    One whose first word is `worker` runs that command.
    """
    with ExitStack() as stack:
        made = [stack.enter_context(_start(folder, words, env)) for words in each]
        end = time.monotonic() + 60
        for one in made:
            while not answers(f"{one.url}/health"):
                assert one.process.poll() is None, one.log()
                assert time.monotonic() < end, one.log()
                time.sleep(0.05)
        yield made


@contextmanager
def _start(folder: Path, words: list[str], env: Mapping[str, str] | None) -> Iterator[Replica]:
    port = free_port()
    log = folder / f"replica-{port}.log"
    kind, *words = words if words[:1] == ["worker"] else ["run", *words]
    command = [sys.executable, "-m", "ticketlock", kind, "--port", str(port)]
    command += ["--bot", "slow_bot:bot", "--endpoints", str(folder / "endpoints.yml"), *words]
    with child(command, lambda: True, log, cwd=folder, env=env) as made:
        yield Replica(port, made, log)


def answers(url: str) -> bool:
    """Whether it answers 200."""
    try:
        with urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (HTTPError, URLError, OSError):
        return False
