"""ticketlock's inbox: each message is awaited, as by a synchronous webhook."""

from __future__ import annotations

import json

from ticketlock.inbox.listener import Listener
from ticketlock.inbox.submission import Submission

from . import ours


class Adapter(ours.Adapter):
    async def submit(self, name: str, number: int) -> None:
        text = self.now()
        listener = Listener()
        message = Submission(name, f"{number} {text}", json.dumps({"text": text}))
        await self.conversations.inbox.submit(message, listener)
        await listener.outcome
