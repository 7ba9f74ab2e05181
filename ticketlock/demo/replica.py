"""The bot of a replica of the demo: `ticketlock run --bot ticketlock.demo.replica:bot`."""

from __future__ import annotations

import os
from pathlib import Path

from .bot import FOLDER, NAME, EchoBot
from .judge.records import Records

bot = EchoBot(Records(Path(os.environ[FOLDER])), os.environ[NAME])
