"""The model of the protocol: spin sees every state of it, within small bounds."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import cache
from itertools import islice

import pytest
from servers import missing

from model import spin
from model.bounds import SMALL
from model.conformance import Conformance
from model.mutants import IN_SCRIPTS, MUTANTS, STORIES, Mutant
from model.replay import replay

#: Seconds for one search; each takes a few.
LONGEST = 120


@cache
def searched(name: str) -> spin.Verdict:
    """What spin finds within a bound."""
    return spin.check(SMALL[name], seconds=LONGEST, calls=True)


@pytest.fixture(autouse=True)
def installed() -> None:
    if not spin.available():
        missing("spin, or a C compiler,", "make servers")


@pytest.fixture
def explorer() -> Iterator[None]:
    """Without the garbage collector, which would go through all that the explorer has kept."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", SMALL)
def test_the_promises_hold(name: str) -> None:
    """No order of events within the bounds breaks a promise."""
    verdict = searched(name)
    assert not verdict.broken, "\n".join([verdict.broken, *map(str, verdict.trace)])
    assert verdict.complete


@pytest.mark.parametrize("name", SMALL)
def test_the_scripts_do_the_same(name: str) -> None:
    """Each call in each state of the model's server is answered alike by the real script."""
    scripts = Conformance(*spin.sizes(SMALL[name]))
    calls = searched(name).calls
    assert calls
    assert not [*islice(scripts.differences(calls), 3)]


@pytest.mark.mutants
@pytest.mark.parametrize("name", IN_SCRIPTS)
def test_a_script_that_drifts_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A fault in a script alone differs from the model in one of the states."""
    patch = MUTANTS[name].patch if name in MUTANTS else STORIES[name][0]
    bound = IN_SCRIPTS[name]
    assert patch is not None
    patch(monkeypatch)
    scripts = Conformance(*spin.sizes(SMALL[bound]))
    assert [*islice(scripts.differences(searched(bound).calls), 1)]


#: One is made in each run of the suite, from the model to the code; the others are mutants.
FIRST = "acquire ignores the holder"


def traced(mutant: Mutant) -> tuple[spin.Event, ...]:
    """The trace that spin finds to the promise which the mutant breaks."""
    verdict = spin.check(mutant.bounds, mutant.flag, seconds=LONGEST)
    assert verdict.broken == mutant.broken
    return verdict.trace


def judge(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spin's trace breaks a promise of the real code with the same fault, and none without it."""
    trace = traced(mutant)
    if mutant.patch is None or not mutant.replayed:
        return
    assert not replay(trace, mutant.bounds).broken
    mutant.patch(monkeypatch)
    broken = replay(trace, mutant.bounds)
    assert not broken.drift
    assert broken.broken


def test_a_trace_of_the_model_is_one_of_the_code(
    explorer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(MUTANTS[FIRST], monkeypatch)


@pytest.mark.mutants
@pytest.mark.parametrize("name", [name for name in MUTANTS if name != FIRST])
def test_mutants_of_the_model(explorer: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    judge(MUTANTS[name], monkeypatch)
