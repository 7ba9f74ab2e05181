"""A real action server, rasa_sdk, in an environment of its own."""

from __future__ import annotations

import fcntl
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inside_rasa.environment import UV, find_python

from . import missing
from .processes import carry_out, child, free_port

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".tools" / "rasa_sdk"
#: That of Rasa 3.6.21, the last one without a license.
SDK = "rasa-sdk==3.6.2"
ACTIONS = Path(__file__).parent / "sdk_actions"


def prepare() -> Path:
    """Make the environment, if it is not there; returns its Python. Without it the test is left out."""
    python, made = FOLDER / "bin" / "python", FOLDER / SDK
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "rasa_sdk.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the workers of a run share it
        if not made.exists():
            try:
                carry_out(
                    [UV, "venv", "--quiet", "--clear", "--python", find_python(), str(FOLDER)]
                )
                carry_out([UV, "pip", "install", "--quiet", "--python", str(python), SDK])
            except (RuntimeError, OSError) as error:
                missing(SDK, f"Python 3.10, uv and an index are needed: {str(error)[-300:]}")
            made.touch()
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
            yield self

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5):
                return True
        except (OSError, urllib.error.URLError):
            return False
