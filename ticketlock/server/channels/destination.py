"""`ChannelDestination`: sends the replies of turns over a channel's API."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from ...deliveries.address import CheckedURL
from ...deliveries.delivery import Dead, Delivery, Verdict
from ...deliveries.destination import Part
from ...deliveries.http import HTTPDestination
from ...deliveries.poster import Answer, Outgoing, Poster
from .channel import Channel


class ChannelDestination(HTTPDestination):
    """The destination of a channel's conversations.

    The address is that of the configuration, which may be a private one: a stand-in, or a proxy.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(Poster(allow_private=True))
        self._channel = channel

    def requests(self, delivery: Delivery) -> Sequence[Outgoing]:
        return [
            Outgoing(CheckedURL.parse(one.url), dict(one.headers), one.body)
            for one in self._channel.requests(delivery)
        ]

    def judge(self, answer: Answer) -> Verdict:
        return self._channel.judge(answer)

    def parts(self, delivery: Delivery) -> Sequence[Part]:
        try:
            return super().parts(delivery)
        except ValueError as error:  # a conversation of another channel or account
            return [partial(_dead, str(error))]


async def _dead(reason: str) -> Verdict:
    return Dead(reason)
