"""The dated results of runs, in a file beside this one: one for each place and kind of run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")

#: What a run does: the command's words.
KINDS = {
    "keeping": ("--nemesis", "keeping"),
    "keeping, messages": ("--nemesis", "keeping", "--messages", "--rate", "50"),
    "losing": ("--nemesis", "losing"),
}
_FAILOVERS = (
    "--nemesis", "failover,lagging-failover", "--messages", "--rate", "50", "--conversations", "4",
)  # fmt: skip
_REFUSE = ("--durability-degraded", "refuse")
#: The same, where masters have replicas.
FAILOVERS = {
    "failovers, messages": (*_FAILOVERS, "--durability", "none"),
    "durable, messages": (
        *_FAILOVERS, "--durability", "replicas", "--durability-replicas", "ALL", *_REFUSE
    ),
    "durable": (
        "--nemesis", "failover,lagging-failover,partition,kill,stop", "--durability", "majority",
        *_REFUSE,
    ),
}  # fmt: skip
#: Of the command's report: what is kept.
_KEPT = (
    "ok", "server", "topology", "seconds", "seed", "processes", "tasks", "conversations", "nemeses",
    "durability", "faults", "operations", "grants", "accepted", "refused", "submitted", "unanswered",
    "finished", "longest_wait",
    "longest_recovery", "longest_without_master", "longest_after_takeover", "longest_overlap",
    "violations", "forgotten", "examples", "hanging_workers",
)  # fmt: skip


def read() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def of(report: dict[str, Any], kind: str, **about: object) -> dict[str, Any]:
    """The result of a run, from the command's report."""
    return {"kind": kind, **about, **{name: report[name] for name in _KEPT}}


def keep(result: dict[str, Any]) -> None:
    """Write it to the file, instead of an earlier one of its kind on such servers."""

    def place(one: dict[str, Any]) -> tuple[str, str]:
        return one["server"].partition(".")[0], one["kind"]

    others = [one for one in read() if place(one) != place(result)] if RESULTS.exists() else []
    part = RESULTS.with_suffix(".part")
    found = sorted([*others, result], key=lambda one: (one["kind"], one["server"]))
    lines = ",\n".join(json.dumps(one) for one in found)
    part.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    part.rename(RESULTS)
