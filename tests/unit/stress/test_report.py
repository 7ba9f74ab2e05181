"""The sentence that a stress run ends with."""

from __future__ import annotations

import pytest

from ticketlock.checker import Fault, History, Operation, Verdict, Violation
from ticketlock.stress.plan import Options
from ticketlock.stress.report import Report


@pytest.mark.parametrize(("messages", "what"), [(False, "9 turns"), (True, "7 messages")])
def test_what_a_loss_of_data_excuses_is_not_denied(messages: bool, what: str) -> None:
    """`all` would contradict the row of the table above it."""
    one = Operation("acquire", "a", "anna", 1, 2, "ok")
    lost = [Violation(kind, one, None, 1, 2, "") for kind in ("lost", "overtaken")]
    verdict = Verdict(forgotten=[*lost, lost[0]], grants=9, submitted=7)
    said = Report(Options(messages=messages), "one server", History(), verdict, []).said
    assert said == (
        f"Verdict: of {what} none broke a promise but those that a loss of data excuses: "
        "2 lost, 1 overtaken. No stale write was stored."
    )


@pytest.mark.parametrize(("messages", "what"), [(False, "all 9 turns"), (True, "all 7 messages")])
def test_a_run_without_losses_speaks_of_all(messages: bool, what: str) -> None:
    verdict = Verdict(grants=9, submitted=7)
    said = Report(Options(messages=messages), "one server", History(), verdict, []).said
    assert said.startswith(f"Verdict: {what} ")


@pytest.mark.parametrize("messages", [False, True])
def test_waits_for_turns_are_not_told_of_messages(messages: bool) -> None:
    """Who submits does not wait for a turn: 0 ms would say that nobody had to."""
    history = History()
    history.faults += [Fault("kill", 1, 1, "0.0"), Fault("no master", 1, 3)]
    rows = dict(Report(Options(messages=messages), "one server", history, Verdict(), []).rows())
    assert rows["longest without a master"] == "2000 ms"
    waits = {"longest wait", "longest recovery from a kill", "longest wait after that"}
    assert waits & rows.keys() == (set() if messages else waits)
