"""`python -m ticketlock stress` as users run it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ticketlock.cli import EXIT_OK


class Command:
    """`python -m ticketlock stress` in a folder, with temporary files of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.temporary = folder, folder / "tmp"
        self.temporary.mkdir()

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "ticketlock", "stress", *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            cwd=self.folder, env={**os.environ, "TMPDIR": str(self.temporary)},
        )  # fmt: skip

    def run(self, *words: str, status: int = EXIT_OK) -> tuple[str, str]:
        """Its output and its errors."""
        with self.start(*words) as process:
            try:
                out, err = process.communicate(timeout=180)
            finally:
                process.kill()
        assert process.returncode == status, err + out
        assert list(self.temporary.iterdir()) == []
        return out, err

    def values(self, *words: str, status: int = EXIT_OK) -> dict[str, Any]:
        """What it found, at half of its default rate: others wait for the processor beside it."""
        out, _ = self.run("--json", "--rate", "100", *words, status=status)
        found: dict[str, Any] = json.loads(out)
        return found

    def endpoints(self, url: str, kind: str = "concurrent_redis", **keys: object) -> str:
        """A file, by its name."""
        section = {"type": kind, "url": url, **keys}
        (self.folder / "endpoints.yml").write_text(json.dumps({"lock_store": section}))
        return "endpoints.yml"
