"""What a turn says of the responses of a domain."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigurationError
from ..events import BotUttered, UserUttered
from ..events.event import Event
from ..events.reply import utterance
from .domain import Domain

log = logging.getLogger("ticketlock")


class Speaker:
    """Says responses in one turn; it counts how often it has said each.

    Args:
        conversation: its id.
        number: that of the turn's ticket, for a message without an id.
    """

    def __init__(self, domain: Domain | None, conversation: str, number: int) -> None:
        self._domain = domain
        self._conversation = conversation
        self._number = number
        self._said: Counter[str] = Counter()

    def event(
        self,
        response: str,
        events: Iterable[Event],
        slots: Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> BotUttered | None:
        """The event of a response; arguments, None and errors as for `message`.

        Raises InvalidEvent too, if it cannot be stored.
        """
        message = self.message(response, events, slots, variables)
        return None if message is None else utterance({**message, "utter_action": response})

    def message(
        self,
        response: str,
        events: Iterable[Event],
        slots: Mapping[str, Any],
        variables: Mapping[str, Any],
    ) -> dict[str, Any] | None:
        """What a response says; None, with a WARNING, if no variation fits.

        A turn that is tried again, here or in another process, says what listeners have already
        heard: the choice depends on the conversation, the user's latest message, the response,
        and how often the turn has said it, and on nothing else.

        Args:
            events: those of the tracker, the latest first.

        Raises ConfigurationError without a domain, or if it has no such response.
        """
        if self._domain is None:
            raise ConfigurationError(
                f"utter {response!r:.80}: there is no domain: give Conversations(domain=), or "
                "`domain` in the section server"
            )
        heard = next((event for event in events if isinstance(event, UserUttered)), None)
        name = getattr(heard, "message_id", None) or f"ticket {self._number}"
        self._said[response] += 1
        draw = f"{self._conversation}\0{name}\0{response}\0{self._said[response]}"
        channel = getattr(heard, "input_channel", None)
        message = self._domain.response(response, channel, slots, variables, draw)
        if message is None:
            log.warning("response %s: no variation fits the slots: nothing is said", response)
        return message
