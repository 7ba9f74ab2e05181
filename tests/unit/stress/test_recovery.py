"""How soon conversations went on, as a history shows it."""

from __future__ import annotations

from ticketlock.checker import Fault, History, Operation
from ticketlock.stress.recovery import after_kills, after_takeovers, takeovers

GONE = Fault("no master", 10, 14, conversations=("anna", "bert"))


def acquire(process: str, conversation: str, invoked: float, completed: float) -> Operation:
    return Operation("acquire", process, conversation, invoked, completed, "ok")


def test_after_a_takeover() -> None:
    """The wait for the first grant of each conversation, from the moment there was a master."""
    operations = [
        acquire("0/1", "anna", 1, 13.9),  # before
        acquire("0/1", "anna", 11, 14.5),
        acquire("0/2", "anna", 11, 17),  # after another one
        acquire("1/1", "bert", 18, 18.2),  # asked later
        acquire("1/2", "carl", 11, 30),  # on other servers
    ]
    history = History(operations, [GONE])
    assert takeovers(history) == [4]
    assert after_takeovers(history) == 0.5


def test_a_takeover_in_which_a_process_was_troubled_says_nothing() -> None:
    """Its lease is what others wait for."""
    operations = [acquire("0/1", "anna", 11, 17)]
    for fault, found in ((Fault("kill", 9, process="1"), 0), (Fault("stop", 1, 2, "1"), 3)):
        assert after_takeovers(History(operations, [GONE, fault])) == found
    assert after_takeovers(History(operations, [GONE, Fault("stop", 16, 18, "1")])) == 0


def test_a_run_that_ends_without_a_master() -> None:
    assert takeovers(History([], [Fault("no master", 10, conversations=("anna",))])) == []


def test_after_a_kill() -> None:
    """From the kill of the holder, or from the call of who came later."""
    operations = [
        acquire("0/1", "anna", 1, 2),
        acquire("1/1", "anna", 1, 8),
        acquire("0/2", "bert", 1, 2), Operation("release", "0/2", "bert", 3, 4, "ok"),
        acquire("1/2", "bert", 1, 30),
    ]  # fmt: skip
    assert after_kills(History(operations, [Fault("kill", 5, process="0")])) == 3
    assert after_kills(History(operations)) == 0
