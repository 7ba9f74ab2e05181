"""Replicas of the bot server: `ticketlock run` processes, killed, stopped, started again."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from .processes import free_port, popen
from .versions import environment


class Replica:
    """One place in the fleet: a port, on which one process after another listens.

    Args:
        endpoints: the `endpoints.yml`; the bot's module is looked for beside it.
        words: more of the command's words, for instance `--bot`.
        command: `run`, or `worker`.

    Attributes:
        version: what the next process runs, a folder of `versions`; None: this checkout.
    """

    def __init__(
        self,
        endpoints: Path,
        *words: str,
        port: int | None = None,
        version: Path | None = None,
        command: str = "run",
    ) -> None:
        self.port = free_port() if port is None else port
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_file = endpoints.parent / f"replica-{self.port}.log"
        self._command = [sys.executable, "-m", "ticketlock", command, "--port", str(self.port)]
        self._command += ["--endpoints", str(endpoints), *words]
        self.process: subprocess.Popen[bytes] | None = None
        self.version = version
        self.start()

    def start(self) -> None:
        """Start a process; it is ready some time later."""
        with self.log_file.open("ab") as log:
            self.process = popen(
                self._command,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.log_file.parent,
                env=environment(self.version),
            )

    def ready(self) -> bool:
        """Whether it takes messages."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def wait_ready(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not self.ready():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the replica is not ready: {self.log}")
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-4000:]

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self, seconds: float = 60) -> int:
        """End it with SIGTERM, wait until it has drained, and return its status."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(seconds)
