"""Trackers (the events of a conversation), and the interfaces of tracker store and outbox."""

from typing import TYPE_CHECKING

from ..imports import late

if TYPE_CHECKING:
    from .tracker import Claim, EventVerbosity, Tracker

__all__ = ["Claim", "EventVerbosity", "Tracker"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = late(__name__, dict.fromkeys(__all__, "tracker"))
