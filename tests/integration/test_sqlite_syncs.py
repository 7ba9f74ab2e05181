"""How often SQLite waits for the disk."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from servers import missing

#: Claims and turns of twenty conversations, each kind at once; before and after it, a line.
WRITER = """
import asyncio, os, sys
from ticketlock.endpoints.registry import create_tracker_store

async def main():
    async with create_tracker_store({"type": "sql", "db": sys.argv[1]}) as store:
        await store.claim("first", 1, "x")
        event = {"event": "user", "text": "one", "timestamp": 1.0}
        os.write(1, b"begin\\n")
        for turn in range(1, 6):
            claims = await asyncio.gather(*(store.claim(str(n), turn, "x") for n in range(20)))
            await asyncio.gather(*(store.append(claim, [event]) for claim in claims))
        os.write(1, b"end\\n")

asyncio.run(main())
"""


def test_each_commit_waits_for_the_disk_once(tmp_path: Path) -> None:
    """What the kernel sees: between two acknowledgements at least one sync, and not one for each."""
    if not (strace := shutil.which("strace")):
        missing("strace", "apt-get install strace")
    command = [strace, "-f", "-e", "trace=write,fsync,fdatasync", "-o", str(tmp_path / "trace")]
    subprocess.run(
        [*command, sys.executable, "-c", WRITER, str(tmp_path / "bot.db")],
        check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    trace = (tmp_path / "trace").read_text()
    inside = trace.split('write(1, "begin')[1].split('write(1, "end')[0]
    syncs = sum("sync(" in line and "resumed" not in line for line in inside.splitlines())
    assert 10 <= syncs <= 30  # ten rounds, each of a batch or two, and not two hundred commits
