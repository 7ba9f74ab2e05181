"""Replicas of another deployment that share the Redis and the key_prefix of this one by mistake.

Each serves the messages of the other, with its own bot and its own histories.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from .report import ALIVE

log = logging.getLogger("ticketlock.server")

#: Reports of this process between two looks at those of others: a minute.
EVERY = 30
#: Most deployments that are named.
_MOST = 100


def digest(place: str) -> str:
    """A tracker store's place as replicas tell it each other; empty if it is not known."""
    return hashlib.sha256(place.encode()).hexdigest()[:16] if place else ""


class Neighbours:
    """Tells once of each other deployment."""

    def __init__(self) -> None:
        self._known: set[tuple[str, str]] = set()

    def look(
        self, own: Mapping[str, Any], others: Sequence[tuple[float, Mapping[str, Any]]]
    ) -> None:
        """Log a warning if a living replica has another bot or another tracker store.

        Args:
            others: the summaries of other processes, each with its age in seconds.
        """
        for since, other in others:
            what = differs(own, other)
            key = (other["bot"], other["tracker"])
            if since >= ALIVE or other["gone"] or not what or key in self._known:
                continue
            if len(self._known) < _MOST:
                self._known.add(key)
                log.warning(
                    "replica %s uses the same Redis and key_prefix, but %s: each of the two handles "
                    "messages of the other. Give each deployment its own key_prefix in the section "
                    "lock_store; replicas of one deployment need the same bot and tracker_store",
                    other["name"], what,
                )  # fmt: skip


def differs(own: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What differs, as text; what one of the two does not tell is not compared."""
    found = []
    if own["bot"] and other["bot"] and own["bot"] != other["bot"]:
        found.append(f"another bot ({other['bot']!r}, not {own['bot']!r})")
    if own["tracker"] and other["tracker"] and own["tracker"] != other["tracker"]:
        found.append("another tracker_store")
    return " and ".join(found)
