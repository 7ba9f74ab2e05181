"""How far spin goes: the small bounds of the test suite, the large ones of `make model`."""

from __future__ import annotations

#: Every promise holds within them; they take some seconds each, most of them the compiler's.
SMALL: dict[str, dict[str, int]] = {
    "no fault": {"PROCESSES": 3, "LONGEST_WAIT": 0},
    "tickets taken back": {"CANCELLATIONS": 2, "EACH": 2, "LONGEST_WAIT": 0},
    "lost bells": {"LOSSY": 1, "EACH": 2},
    "broken connections": {"DROPS": 2, "LATES": 1, "CANCELLATIONS": 1},
    "a crash": {"CRASHES": 1, "LOSSY": 1, "DROPS": 1},
    "stopped processes": {"STOPS": 2, "LOSSY": 1},
    "a standstill of the server": {"OUTAGES": 1, "STOPS": 1},
    "turns broken by an operator": {"BREAKS": 2, "LOSSY": 1},
    "lost data": {"FLUSHES": 1, "STOPS": 1},
}

LARGE: dict[str, dict[str, int]] = {
    "three processes, two tickets each": {"PROCESSES": 3, "EACH": 2},
    "broken connections among three": {
        "PROCESSES": 3, "DROPS": 1, "LATES": 1, "CANCELLATIONS": 1},
    "a crash among three": {"PROCESSES": 3, "CRASHES": 1, "LOSSY": 1},
    "a standstill among three": {"PROCESSES": 3, "OUTAGES": 1},
    "a stop among three": {"PROCESSES": 3, "STOPS": 1},
    "lost data among three": {"PROCESSES": 3, "FLUSHES": 1},
    "two standstills": {"OUTAGES": 2, "STOPS": 1},
    "a standstill and two stops": {"OUTAGES": 1, "STOPS": 2},
    "a standstill and a late command": {"OUTAGES": 1, "STOPS": 1, "DROPS": 1, "LATES": 1},
}  # fmt: skip
