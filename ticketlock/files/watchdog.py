"""Kills the processes, and removes the folder, of a dead process; as a script it waits for its end.

`scratch` creates the folders. `.owner` in it is locked by the process that created it.
`.processes` has a file for each process started there, with its id, locked while it or a child
lives. So an id that was given to another process is not killed, and a folder in use stays.

The script must start fast and without this package, so it imports only the standard library.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time

OWNER, PROCESSES = ".owner", ".processes"
#: Seconds in which killed processes must end; otherwise their folder stays.
_PATIENCE = 5.0


def clear(folder: str) -> None:
    """Kill the processes of a folder, and remove it."""
    places = os.path.join(folder, PROCESSES)
    end = time.monotonic() + _PATIENCE
    gone = []
    with contextlib.suppress(FileNotFoundError):  # there are none, or another process clears it
        gone = [_end(os.path.join(places, name), end) for name in os.listdir(places)]
    if all(gone):
        shutil.rmtree(folder, ignore_errors=True)


def locked(file: int) -> bool:
    """Whether another process has locked an open file; if not, lock it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _end(place: str, end: float) -> bool:
    """Kill the process of a file and its children; returns whether they have ended."""
    file = os.open(place, os.O_RDONLY)
    try:
        while locked(file):
            # Without an id: it was forked just now, and will write it.
            if process := int(os.pread(file, 20, 0) or 0):
                _kill(process)
            if time.monotonic() > end:
                return False
            time.sleep(0.01)
        return True
    finally:
        os.close(file)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)  # it has a session of its own


if __name__ == "__main__":
    while os.read(0, 1):  # the pipe is closed when its owner ends, however it does
        pass
    clear(sys.argv[1])
