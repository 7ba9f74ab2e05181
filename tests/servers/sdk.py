"""A real action server, rasa_sdk, in an environment of its own."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from inside_rasa.environment import UV, find_python

from . import missing
from .processes import carry_out, child, free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".tools" / "rasa_sdk"
#: That of Rasa 3.6.21, the last one without a license; and one for the Python of these tests,
#: where there is no Python 3.10.
SDKS = {"rasa-sdk==3.6.2": find_python, "rasa-sdk==3.14.0": lambda: sys.executable}
ACTIONS = Path(__file__).parent / "sdk_actions"


def prepare() -> Path:
    """Make the environment, if it is not there; returns its Python. Without it the test is left out."""
    python, made = FOLDER / "bin" / "python", FOLDER / "made"
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "rasa_sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a run share it
        problems = []
        for sdk, find in SDKS.items():
            if made.exists():
                return python
            try:
                carry_out([UV, "venv", "--quiet", "--clear", "--python", find(), str(FOLDER)])
                carry_out([UV, "pip", "install", "--quiet", "--python", str(python), sdk])
                made.write_text(sdk)
            except (RuntimeError, OSError) as error:
                problems.append(f"{sdk}: {str(error)[-300:]}")
        if not made.exists():
            missing("rasa_sdk", f"uv and an index are needed: {'; '.join(problems)}")
    return python


class SdkServer:
    """The action server of `sdk_actions/`, from `running` to its end.

    Attributes:
        folder: what `action_slow` waits in.
        process: the server; a test may kill it.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where actions are called."""
        return f"http://127.0.0.1:{self.port}/webhook"

    @contextmanager
    def running(self) -> Iterator[SdkServer]:
        python = prepare()
        environ = {
            **{k: v for k, v in os.environ.items() if not k.startswith("PYTHON")},
            "SANIC_HOST": "127.0.0.1", "TICKETLOCK_SDK_FOLDER": str(self.folder),
        }  # fmt: skip
        command = [str(python), "-m", "rasa_sdk", "--actions", "actions", "-p", str(self.port)]
        log = self.folder / "sdk.log"
        with child(command, self._answers, log, stop_with=9, cwd=ACTIONS, env=environ) as process:
            self.process = process
            try:
                yield self
            finally:
                self.send_signal(signal.SIGKILL)

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        assert self.process is not None
        self.send_signal(signal.SIGKILL)
        self.process.wait()

    def send_signal(self, number: int) -> None:
        """To the server and to the processes in which it works, which it has in some versions."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False
