"""Walks of the explorer from seeds: the real client and scripts, in time that is the model's."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from faults.explorer.client import modelled
from faults.explorer.walk import walk
from faults.explorer.world import Budget
from faults.test_explorer import MUTANTS

BUDGET = Budget(turns=3, ticks=12, drops=3, lates=2, crashes=1, cancels=2, beats=12)
CLOCKS = {"lease": 2.0, "waiter_ttl": 1.5}


@pytest.fixture(autouse=True)
def model() -> Iterator[None]:
    """Without the garbage collector: it would go through all states again and again, in vain."""
    gc.disable()
    with modelled():
        yield
    gc.enable()


@pytest.mark.parametrize("seed", range(3))
def test_a_walk_breaks_no_promise(seed: int) -> None:
    walked = walk(seed, 3, BUDGET, **CLOCKS)
    assert walked.found is None, (walked.choices, str(walked.found))
    assert len(walked.choices) > 40


def test_a_seed_makes_the_same_walk() -> None:
    """Times, names and the network are of the seed."""
    assert walk(7, 2, BUDGET, **CLOCKS) == walk(7, 2, BUDGET, **CLOCKS)


@pytest.mark.mutants
def test_a_fault_is_found_and_shrunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the walk are the two that are granted at once."""
    MUTANTS["two are granted"].patch(monkeypatch)
    walked = walk(0, 2, Budget(turns=2, ticks=4, beats=4), steps=40, **CLOCKS)
    assert walked.found is not None
    assert walked.found.name == "mutual exclusion"
    assert [name for name, *_ in walked.choices] == ["start", "start"]
