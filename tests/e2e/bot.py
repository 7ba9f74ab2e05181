"""The bot of the run, a file of its own beside the `endpoints.yml`.

It does what the demo's bot does for the demo's judge, and tells in its reply which turn that is of.
It is written out because the versions that are rolled must know it: of ticketlock it uses what a
bot is given, and nothing else. It waits as a real bot does, so that a stop that was not asked for
has something to stop.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

#: What `ticketlock.demo.judge.records` reads: a file for each conversation, a line for each entry.
RECORDS = Path(__file__).with_name("records")
REPLICA = f"process {os.getpid()}"


async def bot(turn: Any, message: Any) -> AsyncIterator[dict[str, Any]]:
    id, number = int(message.message_id), turn.grant.number

    def record(event: str) -> None:
        fields = {"m": id, "e": event, "n": number, "f": turn.fence, "r": REPLICA}
        line = json.dumps({**fields, "t": time.monotonic()}).encode() + b"\n"
        path = RECORDS / sha256(turn.sender_id.encode()).hexdigest()
        with path.open("ab", buffering=0) as file:
            file.write(line)

    facts = {"fence": turn.fence, "number": number, "replica": REPLICA, "message": id}
    facts["seen"] = turn.sequence
    custom = {"message_id": message.message_id, "fence": turn.fence}
    record("begin")
    try:
        while RECORDS.with_name(f"hold {id}").exists():  # a long turn
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.01)
        yield {"text": message.text, "custom": custom, "metadata": facts}
        await turn.commit()  # with the lock still held: the end is recorded before the next begin
        turn.ensure_held()
    except BaseException:
        record("lost")
        raise
    record("end")
