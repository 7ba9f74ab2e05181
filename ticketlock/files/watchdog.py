"""Clears away what a process that is gone has started; run as a script, it waits for that first.

`scratch` makes the folders. In one there are `.owner`, locked by whoever made it, and in
`.processes` a file for each process that was started in it: its id, locked by that process for as
long as it, or a child of it, lives. So neither a number that another process has by now is
killed, nor a folder removed that is in use.

As a script it has to start fast, and without this package: it imports the standard library alone.
"""

import contextlib
import fcntl
import os
import shutil
import signal
import sys
import time

OWNER, PROCESSES = ".owner", ".processes"
#: Seconds in which processes that were killed must be gone, else their folder stays.
_PATIENCE = 5.0


def clear(folder: str) -> None:
    """Kill the processes of a folder whose owner is gone, and remove it."""
    places = os.path.join(folder, PROCESSES)
    end = time.monotonic() + _PATIENCE
    gone = []
    with contextlib.suppress(FileNotFoundError):  # there were none, or another one clears it, too
        gone = [_end(os.path.join(places, name), end) for name in os.listdir(places)]
    if all(gone):
        shutil.rmtree(folder, ignore_errors=True)


def locked(file: int) -> bool:
    """Whether another process has locked an open file; if not, this one has now."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _end(place: str, end: float) -> bool:
    """Kill the process of a file, and its children; whether they are gone."""
    file = os.open(place, os.O_RDONLY)
    try:
        while locked(file):
            # Without an id it has just been forked, and will write it.
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
        os.killpg(process, signal.SIGKILL)  # it was started in a session of its own


if __name__ == "__main__":
    while os.read(0, 1):  # the other end is closed when its owner is gone, however it ended
        pass
    clear(sys.argv[1])
