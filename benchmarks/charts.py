"""Charts of the results, one PNG each; a workload that was not measured has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt  # the backend is chosen before
from matplotlib import ticker

from .adapters import PEERS
from .rows import Rows

OURS, OTHERS, FLOOR = "#0b6e4f", "#9aa5b1", "#1f3a5f"
Axes = Any


def draw(results: dict[str, Any], folder: Path) -> list[str]:
    """Write the charts of what was measured; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for letter, (name, title, chart) in CHARTS.items():
        if letter not in results:
            continue
        figure, axes = plt.subplots(figsize=(7.2, 3.6), dpi=100)
        chart(axes, Rows(results[letter]["rows"]))
        axes.set_title(title, fontsize=10, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        figure.tight_layout()
        figure.savefig(folder / f"{name}.png")
        plt.close(figure)
        drawn.append(name)
    return drawn


def colour(peer: str) -> str:
    if peer.startswith(("floor", "trip", "limit")):
        return FLOOR
    return OURS if peer.startswith("ticketlock") else OTHERS


def label(peer: str) -> str:
    return PEERS[peer].label if peer in PEERS else peer


def bars(axes: Axes, rows: Rows, key: str, x: Any = None, unit: str = "") -> None:
    """A bar for each peer, the best on top."""
    found = {peer: rows.median(peer, key, x) for peer in rows.peers()}
    known = sorted((v, peer) for peer, v in found.items() if v is not None)[::-1]
    names = [label(peer) for _, peer in known]
    drawn = axes.barh(names, [v for v, _ in known], color=[colour(p) for _, p in known])
    axes.bar_label(drawn, fmt="{:,.0f}", fontsize=7, padding=2)
    axes.set_xlabel(unit, fontsize=8)


def lines(axes: Axes, rows: Rows, key: str, unit: str, x_label: str) -> None:
    """A line for each peer over x, both on logarithmic scales."""
    for peer in rows.peers():
        points = [(x, v) for x in rows.xs() if (v := rows.median(peer, key, x)) is not None]
        if points:
            label_ = "PUBLISH to subscriber alone" if peer == "trip" else label(peer)
            style = "--" if "uvloop" in peer else ":" if "threads" in label(peer) else "-"
            xs, ys = zip(*points, strict=True)
            width = 1.0 if colour(peer) == OTHERS else 2.0
            line = {"color": colour(peer), "linestyle": style, "linewidth": width}
            axes.plot(xs, ys, marker="o", markersize=3, label=label_, **line)
            axes.annotate(label_, points[-1], fontsize=6, xytext=(4, 0), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_formatter(ticker.NullFormatter())
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.margins(x=0.2)
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(unit, fontsize=8)


def uncontended(axes: Axes, rows: Rows) -> None:
    bars(axes, rows, "us", unit="µs a cycle; less is better")


def concurrent(axes: Axes, rows: Rows) -> None:
    lines(axes, rows, "per_s", "cycles a second", "tasks, each on its own conversation")


def handoff(axes: Axes, rows: Rows) -> None:
    lines(axes, rows, "p50", "µs, median", "waiting for one conversation")


def fairness(axes: Axes, rows: Rows) -> None:
    bars(axes, rows, "worst", 50, "ms; 16 contenders, 50 ms each: 800 is the best there is")


def fleet(axes: Axes, rows: Rows) -> None:
    for peer in ("ticketlock", "floor"):
        points = [(x, rows.median(peer, "per_s", x)) for x in (1, 2, 4, 8)]
        known = [(x, v) for x, v in points if v is not None]
        axes.plot(*zip(*known, strict=True), marker="o", color=colour(peer), label=label(peer))
    for peer, style in (("limit", "--"), ("floor-limit", ":")):
        if (limit := rows.median(peer, "per_s")) is not None:
            text = "server's limit, our scripts" if peer == "limit" else "with the floor's"
            axes.axhline(limit, linestyle=style, color=OTHERS, label=text)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("processes", fontsize=8)
    axes.set_ylabel("cycles a second", fontsize=8)
    axes.legend(fontsize=7)


#: letter -> file, title, what draws it
CHARTS: dict[str, tuple[str, str, Callable[[Axes, Rows], None]]] = {
    "a": ("uncontended", "(a) One cycle that nobody contends", uncontended),
    "b": ("concurrent", "(b) Many conversations in one process", concurrent),
    "c": ("handoff", "(c) From release to the next process's turn", handoff),
    "d": ("fairness", "(d) The unluckiest contender's wait", fairness),
    "i": ("fleet", "(i) More processes on one server", fleet),
}
