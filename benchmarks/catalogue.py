"""The letter of each workload."""

from __future__ import annotations

from types import ModuleType

from .workloads import (
    beside_rasa,
    concurrent,
    costs,
    fairness,
    fleet,
    footprint,
    handoff,
    histories,
    hostile,
    memory,
    neighbours,
    outbox,
    recovery,
    served,
    submitted,
    turns,
    uncontended,
)

WORKLOADS: dict[str, ModuleType] = {
    "a": uncontended,
    "b": concurrent,
    "c": handoff,
    "d": fairness,
    "e": costs,
    "f": memory,
    "g": neighbours,
    "h": recovery,
    "i": fleet,
    "j": turns,
    "k": histories,
    "l": outbox,
    "m": footprint,
    "n": hostile,
    "o": submitted,
    "p": beside_rasa,
    "q": served,
}
