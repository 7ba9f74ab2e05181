"""The first bot of a reader: the files and commands of README.md and start.md, as they stand there."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from documents import ROOT, as_told, blocks
from servers.bot_server import answers
from servers.processes import child, free_port

from ticketlock.redis.embedded import EmbeddedRedis

#: The addresses that the pages name.
REDIS, BOT = "localhost:6379", "localhost:5005"


@pytest.mark.parametrize("name", ["README.md", "docs/start.md"])
def test_the_bot_answers(name: str, own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """Saved, started and asked twice by curl: the reply is the one of the page, both times."""
    port, command, asked, said = free_port(), "", "", None
    for block in blocks(ROOT / name):
        if block.note.startswith("file: "):
            code = block.code.replace(REDIS, f"127.0.0.1:{own_redis.port}")
            (tmp_path / block.note.removeprefix("file: ")).write_text(code)
        for line in block.code.splitlines() if block.language == "sh" else ():
            if line.startswith("ticketlock run"):
                command = line
            elif line.startswith("curl"):
                asked, said = line.replace(BOT, f"127.0.0.1:{port}"), block.output
    assert said is not None
    words = [sys.executable, "-m", *shlex.split(command), "--port", str(port)]
    log = tmp_path / "log"
    with child(words, lambda: True, log, cwd=tmp_path) as process:
        end = time.monotonic() + 60
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.05)
        for _ in range(2):
            curl = subprocess.run(
                [*shlex.split(asked), "-s"], capture_output=True, text=True, check=True
            )
            assert as_told(said, curl.stdout), curl.stdout
