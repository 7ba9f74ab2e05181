"""The result of a stress run, as a table and as a JSON object."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..checker import VIOLATIONS, History, Verdict
from .plan import Options
from .recovery import NO_MASTER, after_kills, after_takeovers, takeovers


@dataclass(frozen=True)
class Report:
    """The outcome of a run.

    Attributes:
        server: what was stressed.
        hang: workers that did not end; `inbox` if messages were left which no one handled;
            conversations that nobody could have when all workers were gone, and keys without an expiry.
    """

    options: Options
    server: str
    history: History
    verdict: Verdict
    hang: list[str]

    @property
    def ok(self) -> bool:
        """Whether there were turns, and every promise was kept."""
        return self.verdict.ok and not self.hang and self.verdict.grants > 0

    @property
    def said(self) -> str:
        """The verdict in a sentence."""
        verdict = self.verdict
        found = [f"{count} {kind}" for kind, count in verdict.counts().items() if count]
        found += [f"{', '.join(self.hang)} left at the end"] if self.hang else []
        if found:
            return f"Verdict: PROMISES WERE BROKEN: {', '.join(found)}."
        if not verdict.grants:
            return "Verdict: no turn was granted, so that nothing is proved."
        if verdict.forgotten:  # "all" would not be true
            what = "messages" if self.options.messages else "turns"
            count = verdict.submitted if self.options.messages else verdict.grants
            return (
                f"Verdict: of {count} {what} none broke a promise but those that a loss of data "
                f"excuses: {self._excused}. No stale write was stored."
            )
        if self.options.messages:
            return (
                f"Verdict: all {verdict.submitted} messages that were accepted were handled once, in "
                "the order of their submission, and one at a time."
            )
        return (
            f"Verdict: all {verdict.grants} turns were held by one process at a time, in the order of "
            "arrival, and no stale write was stored."
        )

    @property
    def longest_recovery(self) -> float:
        """Seconds that a conversation needed at most after the kill of a worker."""
        return after_kills(self.history)

    @property
    def unanswered(self) -> int:
        """Messages of which their senders do not know whether they were accepted."""
        submits = (one for one in self.history.operations if one.kind == "submit")
        return sum(one.outcome == "unknown" for one in submits)

    @property
    def _excused(self) -> str:
        return _listed(Counter(one.kind for one in self.verdict.forgotten))

    def faults(self) -> dict[str, int]:
        """Kind -> how many there were."""
        kinds = (fault.kind for fault in self.history.faults if fault.kind != NO_MASTER)
        return dict(sorted(Counter(kinds).items()))

    def rows(self) -> Iterator[tuple[str, str]]:
        """Title and value of each row of the table."""
        verdict, options = self.verdict, self.options
        yield "server", self.server
        yield "seed", str(options.seed)
        yield "processes, tasks in each", f"{options.processes}, {options.tasks}"
        yield "conversations", str(options.conversations)
        if options.durability is not None:
            yield "durability", ", ".join(map(str, options.keys.values()))
        yield "turns", str(verdict.grants)
        yield "writes accepted, refused", f"{verdict.accepted}, {verdict.refused}"
        if options.messages:
            yield "messages accepted, stored", f"{verdict.submitted}, {verdict.finished}"
            yield "messages without an answer", str(self.unanswered)
        if not options.messages:  # with them nobody waits for a turn
            yield "longest wait", f"{1000 * verdict.longest_wait:.0f} ms"
        if self.faults().get("kill") and not options.messages:
            yield "longest recovery from a kill", f"{1000 * self.longest_recovery:.0f} ms"
        if found := takeovers(self.history):
            yield "longest without a master", f"{1000 * max(found):.0f} ms"
            if not options.messages:
                yield "longest wait after that", f"{1000 * after_takeovers(self.history):.0f} ms"
        for kind, count in self.faults().items():
            yield f"fault: {kind}", str(count)
        for kind, count in verdict.counts().items():
            if options.messages or kind in _OF_TURNS:
                yield kind.replace("_", " "), str(count)
        if verdict.forgotten:
            yield "after a loss of data", self._excused
            yield "longest overlap", f"{verdict.longest_overlap:.3f} s"

    def as_json(self) -> dict[str, Any]:
        """All of it as a JSON object, but for the history."""
        options = self.options
        return {
            **self.verdict.as_json(),
            "ok": self.ok,
            "verdict": self.said,
            "server": self.server,
            "topology": options.topology,
            "durability": options.keys,
            "unanswered": self.unanswered,
            "seed": options.seed,
            "seconds": options.seconds,
            "processes": options.processes,
            "tasks": options.tasks,
            "conversations": options.conversations,
            "nemeses": list(options.nemeses),
            "faults": self.faults(),
            "longest_recovery": self.longest_recovery,
            "longest_without_master": max(takeovers(self.history), default=0.0),
            "longest_after_takeover": after_takeovers(self.history),
            "hanging_workers": self.hang,
        }


#: Violations that a run without messages can find.
_OF_TURNS = [kind for kind in VIOLATIONS if kind not in ("lost", "duplicated", "out_of_order")]


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items())
