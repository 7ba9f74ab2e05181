"""The verdict of a demo, in one sentence."""

from __future__ import annotations

from .report import Report

#: Kind of violation -> the text after its number.
_WORDS = {
    "lost": "messages were lost",
    "duplicated": "messages were handled twice",
    "torn": "turns were written in part",
    "out_of_order": "messages were handled out of order",
    "overlaps": "turns overlapped",
    "stale_fences": "turns were written under a stale fence",
    "damaged": "entries were inconsistent",
    "events_missing": "events did not arrive",
    "events_out_of_order": "events arrived out of order",
    "events_unknown": "events arrived that were never committed",
    "events_differing": "events arrived changed",
    "events_waiting": "conversations still had events to publish",
}
#: Kinds that are named for a run without the lock; the others follow from them.
_NAMED = ("lost", "out_of_order", "overlaps")


def verdict(report: Report, unlocked: bool = False) -> str:
    """Whether every promise was kept, and which were broken."""
    if unlocked:
        return f"Verdict: without the lock {_found(report)}."
    return f"Verdict: {_broken(report) if report.violations else _kept(report)}."


def compared(locked: Report, unlocked: Report) -> str:
    """The verdict of two runs with the same messages, with the lock and without."""
    said = _broken(locked) if locked.violations else _kept(locked)
    return f"Verdict: with the lock {said}; without it {_found(unlocked)}."


def _kept(report: Report) -> str:
    said = (
        f"all {report.messages} messages of {report.conversations} conversations were handled "
        "once, whole, in order and one at a time"
    )
    if report.events is not None and not report.events.unread:
        said += ", and every event arrived"
    if report.kills:
        many = "a replica was" if report.kills == 1 else f"{report.kills} replicas were"
        said += f", although {many} killed"
    return said


def _broken(report: Report) -> str:
    found = _messages(report)
    return "PROMISES WERE BROKEN: " + _listed(list(found), found)


def _found(report: Report) -> str:
    found = _messages(report)
    if not found:
        return "nothing went wrong this time: send more messages at once"
    kinds = [kind for kind in _NAMED if kind in found] or list(found)
    return f"{_listed(kinds, found)}, of {report.messages} messages"


def _messages(report: Report) -> dict[str, int]:
    """Kind -> number of affected messages; a violation without a message counts as one."""
    found: dict[str, set[object]] = {kind: set() for kind, n in report.counts().items() if n}
    for place, one in enumerate(report.violations):
        message = f"violation {place}" if one.message is None else one.message
        found[one.kind].add((one.conversation, message))
    return {kind: len(messages) for kind, messages in found.items()}


def _listed(kinds: list[str], found: dict[str, int]) -> str:
    parts = [f"{found[kind]} {_WORDS[kind]}" for kind in kinds]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
