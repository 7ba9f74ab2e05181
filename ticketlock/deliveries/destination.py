"""`Destination`: where replies go; `OnReply`: to a function of the embedding program."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from .delivery import Delivery, Done, Verdict

#: One part of a delivery: sends it once, and returns what became of it.
Part = Callable[[], Awaitable[Verdict]]


class Destination(ABC):
    """Where the replies of turns are sent.

    Attributes:
        max_tries: attempts after which a delivery becomes a dead letter.
        max_pause: seconds at most between two attempts.
        timeout: seconds for one part.
    """

    max_tries: int = 16
    max_pause: float = 600.0
    timeout: float = 10.0

    @abstractmethod
    def parts(self, delivery: Delivery) -> Sequence[Part]:
        """The parts of a delivery, sent one after the other.

        A later attempt begins with the part that failed, so it must find the same parts.
        """


class OnReply(Destination):
    """A function of the embedding program, awaited with each delivery.

    It is called at least once for each, in the order of a conversation's turns; one that raises
    or takes too long is called again.
    """

    def __init__(
        self,
        function: Callable[[Delivery], Awaitable[object]],
        *,
        timeout: float = 10.0,
        max_tries: int = 16,
    ) -> None:
        self._function = function
        self.timeout = timeout
        self.max_tries = max_tries

    def parts(self, delivery: Delivery) -> Sequence[Part]:
        return [partial(self._call, delivery)]

    async def _call(self, delivery: Delivery) -> Verdict:
        await self._function(delivery)
        return Done()
