"""What all replicas tell, as one object for the operator's page."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ..inspection import Holder
from .fleet import Heard, age
from .meter import Counters, merged
from .told import MOST

#: Seconds after its last word for which a process counts as running.
ALIVE = 10.0


def merge(heard: Heard) -> dict[str, Any]:
    """What several processes tell, as one; see `Fleet.hear`."""
    told = [(since, summary) for since, summary in heard.values()]
    here = [(since, s) for since, s in told if since < ALIVE and not s["gone"]]
    rows: dict[str, dict[str, Any]] = {}
    for since, summary in here:
        for row in summary["rows"]:
            _add(rows, _aged(row, since, summary["name"]))
    shown = sorted(rows.values(), key=age, reverse=True)
    counters = [summary["counters"] for _, summary in here]
    return {
        "processes": [
            {
                "name": s["name"], "age": since, "draining": s["draining"], "held": s["held"],
                "waiting": s["waiting"], "handled": s["counters"]["handled"],
            }
            for since, s in sorted(here, key=lambda pair: str(pair[1]["name"]))
        ],
        "totals": {
            "held": sum(s["held"] for _, s in here),
            "waiting": sum(s["waiting"] for _, s in here),
            "conversations": max(len(rows), *(s["conversations"] for _, s in here), 0),
        },
        "counters": {name: sum(c[name] for c in counters) for name in vars(Counters())},
        "conversations": shown[: 2 * MOST],
        "history": merged([(since, s["samples"]) for since, s in told]),
    }  # fmt: skip


def _aged(row: dict[str, Any], since: float, process: str) -> dict[str, Any]:
    """A row as it is now, which was told some seconds ago."""
    holder = row["holder"]
    if holder is not None:
        holder = {**holder, "process": process, "held_for": holder["held_for"] + since}
    wait = row["longest_wait"] + since if row["waiting"] else 0.0
    return {**row, "holder": holder, "longest_wait": wait}


def _add(rows: dict[str, dict[str, Any]], row: dict[str, Any]) -> None:
    """Add what another process tells of the same conversation."""
    known = rows.setdefault(row["id"], row)
    if known is row:
        return
    known["waiting"] += row["waiting"]
    known["longest_wait"] = max(known["longest_wait"], row["longest_wait"])
    # Two that hold it: they told at different moments, and the later turn has the higher fence.
    known["holder"] = max(known["holder"], row["holder"], key=lambda h: h["fence"] if h else 0)


def holder_row(holder: Holder | None) -> dict[str, Any] | None:
    """A holder that the lock store tells of, in the form of a row's."""
    if holder is None:
        return None
    fields = asdict(holder)
    process = f"{holder.host}:{holder.process}" if holder.host else None
    return {k: fields[k] for k in ("label", "number", "fence", "held_for")} | {"process": process}
