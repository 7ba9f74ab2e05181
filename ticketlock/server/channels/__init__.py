"""Messaging channels: `create_channels` makes those of the section `channels`.

To add one: a file with a `Channel`, its keys in `ticketlock/settings/channel_keys.py`, and a line
in `CHANNELS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import ConfigurationError
from ...settings.channel_keys import CHANNEL_KEYS
from ...settings.keys import declared
from ...settings.section import Section, endpoint_values, hint
from .channel import Channel
from .meta import Messenger, WhatsApp
from .slack import Slack
from .telegram import Telegram
from .twilio import Twilio

#: Name -> class.
CHANNELS: dict[str, Any] = {
    kind.name: kind for kind in (Slack, Telegram, WhatsApp, Messenger, Twilio)
}


def create_channels(section: Any = None, where: str = "channels") -> list[Channel]:
    """The channels of a section: an EndpointConfig, a mapping of names to keys, or None for none.

    Raises ConfigurationError.
    """
    if section is None:
        return []
    given = section if isinstance(section, Mapping) else endpoint_values(section)
    return [create_channel(name, keys, where) for name, keys in given.items()]


def create_channel(name: str, keys: Any, where: str = "channels") -> Channel:
    """The channel of this name. Raises ConfigurationError."""
    if name not in CHANNELS:
        raise ConfigurationError(f"{where}: {name}: is not a channel; {hint(name, CHANNELS)}")
    if not isinstance(keys, Mapping):
        raise ConfigurationError(f"{where}: {name}: is not a mapping of its keys")
    section = Section(keys, f"{where}: {name}")
    values = section.values(CHANNEL_KEYS[name])
    section.finish()
    for key, one in declared(CHANNEL_KEYS[name]).items():
        if one.key.shown == "required" and not values[key]:
            raise section.error(key, "is missing")
    return CHANNELS[name](values)  # type: ignore[no-any-return]  # of the table above
