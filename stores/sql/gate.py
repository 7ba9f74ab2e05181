"""A gate for the transactions of SQLite, which is shut while the process forks."""

from __future__ import annotations

import threading

#: Seconds that a fork waits for transactions. One may wait for a lock that a fork holds, as that of
#: `logging`, and then neither would go on.
PATIENCE = 5.0


class Gate:
    """`with gate:` passes while it is open, several at once."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_shut, self._inside = False, 0

    def __enter__(self) -> None:
        with self._changed:
            while self._is_shut:
                self._changed.wait()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside -= 1
            self._changed.notify_all()

    def shut(self) -> None:
        """Let no other in, and wait until none is inside."""
        with self._changed:
            self._is_shut = True
            self._changed.wait_for(lambda: not self._inside, PATIENCE)

    def open(self) -> None:
        with self._changed:
            self._is_shut = False
            self._changed.notify_all()
