"""`EventBroker`: the interface to which the events of conversations are published."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Sequence
from typing import Any

from ..imports import registry
from ..tracker.outbox import DeadLetter
from .message import DELIVERED, BrokerMessage, Outcome, Unsendable, poisoned, retry

#: Seconds that `deliver` may take by default.
DELIVER_TIMEOUT = 10.0


class EventBroker:
    """Publishes events. A custom broker implements the four documented methods, plain or async:
    `from_endpoint_config`, `publish`, `is_ready` and `close`. It inherits the rest.
    """

    @classmethod
    async def from_endpoint_config(cls, broker_config: Any, event_loop: Any = None) -> Any:
        """Create a broker from a section, an `EndpointConfig`; None for None."""
        raise NotImplementedError(f"{cls.__name__} must implement from_endpoint_config")

    @staticmethod
    async def create(obj: Any = None, loop: Any = None) -> EventBroker | None:
        """Create a broker from a section: an EndpointConfig or a mapping. A broker is returned
        as it is, and None gives None.

        Raises ConfigurationError, and EventBrokerConnectionError if the type connects at once.
        `loop` is documented and ignored: no broker is bound to an event loop.
        """
        created: EventBroker | None = await registry().create_event_broker(obj)
        return created

    def publish(self, event: dict[str, Any]) -> Any:
        """Queue one event and return at once. Raises EventBrokerError if it is refused."""
        raise NotImplementedError(f"{type(self).__name__} must implement publish")

    def is_ready(self) -> Any:
        """Whether the last attempt to use the broker succeeded."""
        return True

    async def connect(self) -> None:
        """Connect now. Raises EventBrokerConnectionError with the reason."""

    async def connect_once(self) -> None:
        """As `connect`, with a single attempt, for callers that repeat it themselves."""
        await self.connect()

    async def close(self) -> None:
        """Close connections, within a bounded time."""

    async def deliver(
        self, batch: Sequence[BrokerMessage], timeout: float | None = None
    ) -> list[Outcome]:
        """Send a batch in order; return one outcome for each message.

        After the first `retry` of a conversation, no later message of it counts as delivered.
        Poisoned messages are skipped, and those after them are sent. This implementation calls
        `publish` for each message, and takes its return as the confirmation.

        Args:
            timeout: seconds; messages that are not confirmed by then are `retry`. None: the
                broker's default.

        Returns:
            One outcome for each message, in the order of the batch. If the broker is away, the
            outcomes say so. EventBrokerError is raised only by a closed broker.
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

    def _publish_now(self, document: dict[str, Any]) -> Any:
        return self.publish(document)

    async def _publish_one(self, message: BrokerMessage, seconds: float) -> Outcome:
        if seconds <= 0:
            return retry("the time ran out before it was sent")
        try:
            message.encode()
            answer = self._publish_now(message.document())
            if inspect.isawaitable(answer):
                await asyncio.wait_for(answer, seconds)
            else:
                await asyncio.sleep(0)  # a long batch must not block the event loop
        except Unsendable as error:
            return poisoned(error)
        except (asyncio.TimeoutError, TimeoutError):
            return retry("publish did not return in time")
        except Exception as error:  # noqa: BLE001  # a custom broker may raise any error
            return Outcome("retry", f"{type(error).__name__}: {error}", suspect=True)
        return DELIVERED


async def resend(broker: EventBroker, letter: DeadLetter, timeout: float) -> Outcome:
    """Publish a dead letter again. The caller removes it from the store if it is delivered.

    Args:
        timeout: seconds for the broker's answer.
    """
    message = BrokerMessage(letter.sender_id, letter.sequence, letter.event, history=letter.history)
    (outcome,) = await broker.deliver([message], timeout)
    return outcome
