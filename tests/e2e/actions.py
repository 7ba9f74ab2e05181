"""The action server of the run: a real one, killed and started again."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from servers.sdk import SdkServer


class ActionProcess:
    """`rasa_sdk` with the actions of the tests.

    Attributes:
        url: where actions are called.
    """

    def __init__(self, folder: Path) -> None:
        self._server = SdkServer(folder)
        self._running = ExitStack()
        self.url = self._server.url
        self.start()

    def start(self) -> None:
        """Start a process, which answers then."""
        self._running.enter_context(self._server.running())

    def kill(self) -> None:
        """End it at once, in the middle of whatever it does."""
        self._server.kill()
        self._running.close()
