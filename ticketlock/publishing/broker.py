"""What an event broker is: where the events of conversations are published to."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

from ..imports import registry
from ..tracker.outbox import DeadLetter
from .message import DELIVERED, Message, Outcome, Unsendable, poisoned, retry

#: Seconds that `deliver` may take where nothing else is said.
DELIVER_TIMEOUT = 10.0


class EventBroker:
    """Publishes events. A custom broker has the four documented methods, plain or async:
    `from_endpoint_config`, `publish`, `is_ready` and `close`; the rest is inherited.
    """

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> Any:
        """A broker made from a section, an `EndpointConfig`; None for None."""
        raise NotImplementedError(f"{cls.__name__} must implement from_endpoint_config")

    @staticmethod
    async def create(obj: Any = None, loop: Any = None) -> EventBroker | None:
        """The broker of a section: an EndpointConfig, a mapping, a broker, or None.

        Raises ConfigurationError, and EventBrokerConnectionError where the type connects at
        once. `loop` is documented and not needed: no broker is bound to an event loop.
        """
        created: EventBroker | None = await registry().create_event_broker(obj)
        return created

    def publish(self, event: dict[str, Any]) -> Any:
        """Queue one event to be sent. Returns at once; raises EventBrokerError if it is refused."""
        raise NotImplementedError(f"{type(self).__name__} must implement publish")

    def is_ready(self) -> Any:
        """Whether the broker could be reached last time."""
        return True

    async def connect(self) -> None:
        """Reach the broker now. Raises EventBrokerConnectionError saying why it is not."""

    async def connect_once(self) -> None:
        """As `connect`, but with a single attempt, for a caller that waits."""
        await self.connect()

    async def close(self) -> None:
        """Close what is open, within a bounded time."""

    async def deliver(
        self, batch: Sequence[Message], timeout: float | None = None
    ) -> list[Outcome]:
        """Send a batch in order; return one outcome for each message.

        Of one conversation nothing counts as delivered after its first `retry`. Poisoned
        messages are skipped, what follows them is sent. This implementation calls `publish`
        for one message after the other and takes its return for the confirmation.

        Args:
            timeout: seconds; what is not confirmed by then is `retry`. None: the broker's own.

        Returns:
            One outcome for each message, in the order of the batch. A broker that is away is
            an outcome, not an exception; EventBrokerError means that the broker is closed.
        """
        seconds = DELIVER_TIMEOUT if timeout is None else timeout
        end = asyncio.get_running_loop().time() + seconds
        failed: dict[str, Outcome] = {}
        outcomes = []
        for message in batch:
            outcome = failed.get(message.conversation_id)
            if outcome is None:
                left = end - asyncio.get_running_loop().time()
                outcome = await self._publish_one(message, left)
                if outcome.status == "retry":
                    failed[message.conversation_id] = outcome
            outcomes.append(outcome)
        return outcomes

    def _hand_over(self, document: dict[str, Any]) -> Any:
        return self.publish(document)

    async def _publish_one(self, message: Message, seconds: float) -> Outcome:
        if seconds <= 0:
            return retry("the time ran out before it was sent")
        try:
            message.encode()
            answer = self._hand_over(message.document())
            if inspect.isawaitable(answer):
                await asyncio.wait_for(answer, seconds)
            else:
                await asyncio.sleep(0)  # a long batch must not hold the event loop
        except Unsendable as error:
            return poisoned(error)
        except (asyncio.TimeoutError, TimeoutError):
            return retry("publish did not return in time")
        except Exception as error:  # noqa: BLE001  # whatever a custom broker raises
            return Outcome("retry", f"{type(error).__name__}: {error}", suspect=True)
        return DELIVERED


async def resend(broker: EventBroker, letter: DeadLetter, timeout: float) -> Outcome:
    """Publish a dead letter once more; it stays one until the caller removes it.

    Args:
        timeout: seconds for the broker's answer.
    """
    message = Message(letter.sender_id, letter.sequence, letter.event, history=letter.history)
    (outcome,) = await broker.deliver([message], timeout)
    return outcome
