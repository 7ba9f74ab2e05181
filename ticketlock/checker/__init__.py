"""A checker for histories of locks: of ticketlock's, and of others.

    history = History.read("worker-1.jsonl", "worker-2.jsonl")
    verdict = check(history)
    assert verdict.ok, verdict.violations

`ticketlock stress` records such histories on your own Redis. docs/operations/stress.md describes the
file, and what counts as a violation.
"""

from .check import check
from .drawing import picture, png, timeline
from .history import Call, History, Recorder
from .operations import Fault, Operation
from .verdict import VIOLATIONS, Verdict, Violation

__all__ = [
    "VIOLATIONS", "Call", "Fault", "History", "Operation", "Recorder", "Verdict", "Violation",
    "check", "picture", "png", "timeline",
]  # fmt: skip
