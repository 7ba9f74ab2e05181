"""The sender of a demo with `--async`: a platform that wants its 202, and never sends again after it."""

from __future__ import annotations

import asyncio
import time

from .client import Refused
from .processes import Replica, ReplicaFailed
from .sender import LOOK, MessageSender, SentMessage

#: The webhook, and seconds that a request for an outcome waits.
PATH = "/webhooks/rest/webhook?async=true"
_WAIT = 20


class AcceptedSender(MessageSender):
    """Sends each message until it is accepted, once, and then asks for its outcome.

    A message that was accepted is not sent again, whatever becomes of the replica that took it.
    """

    async def _send(self, delivery: SentMessage) -> str | None:
        message = delivery.message
        body = {"sender": message.conversation, "message": message.text}
        body["message_id"] = str(message.id)
        try:
            async with self._lanes[message.conversation]:
                replica = await self._any_replica()
                delivery.sends += 1
                delivery.sent_at = delivery.sent_at or time.monotonic()
                accepted = await replica.client.request("POST", PATH, body)
                delivery.accepted_at = time.monotonic()
        except (OSError, EOFError) as error:
            return f"the connection failed: {error}"
        except Refused as error:
            if error.status < 500:
                raise ReplicaFailed(f"replica {replica.name} refused a message: {error}") from error
            return str(error)
        self._at[replica.name] += 1
        try:
            await self._finished(f"{accepted['outcome']}?wait={_WAIT}")
        finally:
            self._at.subtract([replica.name])
        return None

    async def _finished(self, address: str) -> None:
        """Wait until a message is replied to. Raises ReplicaFailed if it ended in another way."""
        replica: Replica | None = None
        while True:
            try:
                replica = await self._any_replica()
                outcome = await replica.client.request("GET", address)
            except (OSError, EOFError) as error:
                self.last_failure = f"the connection failed: {error}"
                await asyncio.sleep(LOOK)
                continue
            except Refused as error:
                self.last_failure = str(error)
                if error.status < 500:
                    raise ReplicaFailed(f"an accepted message was lost: {error}") from error
                await asyncio.sleep(LOOK)
                continue
            if outcome["state"] == "replied":
                return
            if outcome["state"] not in ("waiting", "running"):
                raise ReplicaFailed(f"an accepted message ended as {outcome['state']}: {outcome}")
