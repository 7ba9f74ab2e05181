"""What makes of `ticketlock run` a replica of the demo: `--bot ticketlock.demo.replica:bot`.

Loading it ties the process to the demo, which holds the other end of its stdin and never writes
to it: when that end is closed, because the demo has been killed, the process is stopped, too.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

from .bot import FOLDER, NAME, EchoBot
from .records import Records

bot = EchoBot(Records(Path(os.environ[FOLDER])), os.environ[NAME])


def _end_with_the_demo() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=_end_with_the_demo, daemon=True).start()
