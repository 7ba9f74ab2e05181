"""Running spin on `lock.pml`: how many states it has seen, and what it says of a violation."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
#: Megabytes that a search may take, and how long a chain of steps may be.
MEMORY, DEPTH = 6000, 200_000
#: Of `state.pml`: milliseconds of one unit of time, and what stands for no ticket.
UNIT, NONE = 500, 102


class Event(NamedTuple):
    """A step of the model, as it says itself in `processes.pml` and `faults.pml`.

    Attributes:
        answers: what the scripts have answered in it: see `Answer`.
    """

    name: str
    words: tuple[int, ...]
    answers: tuple[Answer, ...] = ()

    def __str__(self) -> str:
        return " ".join([self.name, *map(str, self.words)])


class Answer(NamedTuple):
    """The variables r_* of `state.pml` after a script; which of them count depends on it."""

    kind: int
    number: int
    fence: int
    left: int
    ticket: int
    missing: int


class Verdict(NamedTuple):
    """What a search has found.

    Attributes:
        broken: the promise of `properties.pml` that does not hold, or "".
        trace: the steps to there.
        complete: whether every state was seen.
        calls: each call of a script in each state of the server, if they were asked for.
    """

    states: int
    seconds: float
    complete: bool
    broken: str
    trace: tuple[Event, ...]
    calls: tuple[str, ...] = ()


class SpinFailed(Exception):
    """Spin, or the compiler of its verifier, did not do its work; with what it said."""


def sizes(bounds: Mapping[str, int]) -> tuple[int, int]:
    """How many processes a bound has, and how many tickets each; as in `state.pml`."""
    return bounds.get("PROCESSES", 2), bounds.get("EACH", 1)


def available() -> bool:
    """Whether spin and a C compiler are installed; `.ci/servers` does that."""
    return bool(shutil.which("spin") and shutil.which("cc"))


def check(
    bounds: Mapping[str, int],
    mutant: str = "",
    *,
    seconds: float = 3600,
    large: bool = False,
    calls: bool = False,
) -> Verdict:
    """Search all states of the model.

    Args:
        bounds: sizes and budgets, as in `state.pml` and `faults.pml`.
        mutant: the name of a change in the model; see `mutants.py`.
        seconds: after which the search gives up, with SpinFailed.
        large: so many states that a fast verifier is worth the seconds in which it is compiled.
        calls: tell of each call of a script in each state; see `calls.h`.
    """
    flags = [f"-D{name}={value}" for name, value in bounds.items()]
    flags += [f"-D{name}" for name in (mutant, "CALLS" if calls else "") if name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for source in (*FOLDER.glob("*.pml"), FOLDER / "calls.h"):
            shutil.copy(source, folder)
        run(folder, ["spin", "-a", *flags, "lock.pml"], 60)
        options = ["-O2" if large else "-O0", "-w", "-DSAFETY", "-DCOLLAPSE", f"-DMEMLIM={MEMORY}"]
        processes, each = sizes(bounds)
        options += [f"-DPROCESSES={processes}", f"-DTICKETS={processes * each}"]
        run(folder, ["cc", *options, "-o", "pan", "pan.c"], 600)
        said = run(folder, ["./pan", "-w24" if large else "-w18", f"-m{DEPTH}"], seconds)
        trace: tuple[Event, ...] = ()
        if (folder / "lock.pml.trail").exists():
            trace = events(run(folder, ["spin", "-t", *flags, "lock.pml"], 60))
    told = tuple(line[5:] for line in said.splitlines() if line.startswith("CALL "))
    return _verdict(said, trace)._replace(calls=told)


def run(folder: Path, command: Sequence[str], seconds: float) -> str:
    """What a program prints. Raises SpinFailed."""
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SpinFailed(f"{command[0]} was not ready after {seconds:g} s") from error
    if done.returncode:
        raise SpinFailed(f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout


def events(said: str) -> tuple[Event, ...]:
    """The steps of a trail that spin has gone through."""
    found: list[Event] = []
    for line in said.splitlines():
        kind, *words = line.split() or [""]
        if kind == "EVENT":
            found.append(Event(words[0], tuple(map(int, words[1:]))))
        elif kind == "ANSWER":
            answer = Answer(*map(int, words))
            found[-1] = found[-1]._replace(answers=(*found[-1].answers, answer))
    return tuple(found)


def _verdict(said: str, trace: tuple[Event, ...]) -> Verdict:
    states = re.search(r"(\d+) states, stored", said)
    seconds = re.search(r"elapsed time ([\d.e+]+) seconds", said)
    broken = re.search(r"pan:\d+: (?:assertion violated )?(.+?) \(at depth", said)
    if states is None or seconds is None:
        raise SpinFailed(said[-2000:])
    short = "out of memory" in said or "max search depth too small" in said
    incomplete = short or "Search not completed" in said
    return Verdict(
        int(states[1]), float(seconds[1]), not incomplete, broken[1] if broken else "", trace
    )
