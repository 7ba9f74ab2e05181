"""Where the server stood still, silence is held against no waiter: the scripts, at set times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from faults.explorer.redis_model import Frozen, ModelRedis
from faults.mutation import Patch, expect_noticed, lua

from ticketlock.inbox.scripts import InboxScripts
from ticketlock.inbox.submission import Submission
from ticketlock.locks.concurrent.scripts import Scripts, Timing
from ticketlock.redis.settings import RedisSettings
from ticketlock.settings.section import Section

#: Milliseconds; longer than a waiter's life and its grace.
LEASE, LONG = 60_000, 3000


class Server:
    """The scripts over the explorer's Redis, called by two processes."""

    def __init__(self) -> None:
        settings = RedisSettings.read(Section({}, "here"))
        timing = Timing(lease=LEASE)
        self._server = ModelRedis()
        self._data: Frozen = ()
        self.now = 1_700_000_000_000
        self.one, self.two = (Scripts(settings, timing, name, "h:1") for name in ("one", "two"))
        self.inbox = InboxScripts(self.one, self.one.keys.prefix, cluster=False)
        _, self._holder, self._queue, _ = self.one.keys.of("c")

    def call(self, words: tuple[Any, ...]) -> Any:
        done = self._server.execute(self.now, self._data, tuple(map(str, words)))
        self._data = done.state
        return done.answer

    def submit(self, message_id: str, server: str = "", most: int | None = None) -> Any:
        message = Submission("c", message_id, "{}", max_waiting=most)
        return self.call(self.inbox.submit(message, server, LEASE, "", ""))

    def expiry(self) -> int:
        """When the queue expires, 0: never."""
        return next(until for key, _, until in self._data if key == self._queue)

    def waiting(self) -> list[str]:
        found = {key: value for key, value, _ in self._data}
        tickets = sorted(found.get(self._queue, ()), key=lambda ticket: ticket[1])
        return [member for member, _ in tickets]

    def fence(self) -> int:
        found = {key: value for key, value, _ in self._data}
        return int(found[self._holder].split()[0])


def test_who_is_heard_first_passes_over_nobody() -> None:
    """No heartbeat had come before the server stood still: the first one after it skips none."""
    server = Server()
    server.call(server.one.acquire("c", "one.1-s", LEASE, lease=LONG))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.now += LONG  # all leases are over
    server.call(server.one.attend([("c", "one.1-s")]))
    assert server.waiting() == ["two.1-s"]


def two_behind_a_turn() -> tuple[Server, int]:
    """A turn, behind it the other process and then its own once more; the server and the fence."""
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.call(server.one.acquire("c", "one.2-s", LEASE))
    return server, fence


def test_a_silence_of_less_than_a_life_is_one() -> None:
    """The server stood still for 1.8 s: who was heard least recently is dead by then, and waited for."""
    server, fence = two_behind_a_turn()
    server.now += 900
    server.call(server.one.attend([("c", "one.2-s")]))
    server.now += 1800
    server.call(server.one.attend([("c", "one.2-s")]))
    assert server.call(server.one.release("c", "one.1-s", fence)) == 1
    assert server.waiting() == ["two.1-s", "one.2-s"]


def test_heartbeats_are_awaited_from_the_first_ticket_on() -> None:
    """The server stood still before the first heartbeat in a queue, for less than a life."""
    server, fence = two_behind_a_turn()
    server.now += 1600
    server.call(server.one.attend([("c", "one.2-s")]))
    server.now += 1000
    assert server.call(server.one.release("c", "one.1-s", fence)) == 1
    assert server.waiting() == ["two.1-s", "one.2-s"]


def test_a_silence_soon_after_another_is_one_of_its_own() -> None:
    """A waiter that was heard once between two of them keeps its place."""
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.now += LONG
    server.call(server.two.attend([("c", "two.1-s")]))
    server.now += LONG
    assert server.call(server.one.release("c", "one.1-s", fence)) == 1
    assert server.waiting() == ["two.1-s"]


def handed_on(server: Server) -> int:
    """The turn is handed on to the second process, and the server stands still; its fence."""
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    assert server.call(server.one.release("c", "one.1-s", fence)) == 1
    server.now += LONG
    return server.fence()


def test_a_turn_that_nobody_heard_of_keeps_its_place() -> None:
    """It was handed on just before the server stood still: a later ticket waits behind it."""
    server = Server()
    handed_on(server)
    kind, *_ = server.call(server.one.acquire("c", "one.2-s", LEASE))
    assert (kind, server.waiting()) == (0, ["two.1-s", "one.2-s"])
    _, (missing, _, bell) = server.call(server.two.attend([("c", "two.1-s")]))
    assert (missing, bell.split()[:3]) == (0, ["grant", "1", "2"])
    assert server.waiting() == ["one.2-s"]


def test_its_own_heartbeat_gives_it_its_turn_again() -> None:
    """Also where nobody else has come meanwhile: under a higher fence."""
    server = Server()
    fence = handed_on(server)
    _, (missing, _, bell) = server.call(server.two.attend([("c", "two.1-s")]))
    assert (missing, bell.split()[:3]) == (0, ["grant", "1", "2"])
    assert server.fence() > fence


def test_a_process_that_is_done_with_its_turn_gets_no_other() -> None:
    """It had heard of the turn, and its release comes late: the ticket is not left in the queue, and a
    turn that it was granted again is handed on."""
    for heard in (False, True):
        server = Server()
        fence = handed_on(server)
        server.call(server.one.acquire("c", "one.2-s", LEASE))
        if heard:
            server.call(server.two.attend([("c", "two.2-s")]))
            assert server.waiting() == ["one.2-s"]
        assert server.call(server.two.release("c", "two.1-s", fence)) == 0
        if not heard:
            assert server.waiting() == ["one.2-s"]
            server.call(server.one.attend([("c", "one.2-s")]))
        assert server.waiting() == []


def test_the_dead_are_handed_their_turn_once() -> None:
    """Somebody was heard while its lease ran out: the server did not stand still."""
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.call(server.one.acquire("c", "one.2-s", LEASE))
    server.call(server.one.release("c", "one.1-s", fence))
    for _ in range(2):
        server.now += 1000
        server.call(server.one.attend([("c", "one.2-s")]))
    server.now += 1000
    _, (_, _, bell) = server.call(server.one.attend([("c", "one.2-s")]))
    assert (bell.split()[:3], server.waiting()) == (["grant", "2", "3"], [])


def test_a_message_does_not_overtake_a_turn_that_nobody_heard_of() -> None:
    """Neither one that waits behind it, and is taken first after the standstill, nor one that comes then."""
    for comes in (False, True):
        server = Server()
        _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
        server.call(server.two.acquire("c", "two.1-s", LEASE))
        if not comes:
            server.submit("m")
        server.call(server.one.release("c", "one.1-s", fence))
        server.now += LONG
        if comes:
            answer = server.submit("m", "one.2-s")
        else:
            answer, *_ = server.call(server.inbox.take("c", "one.2-s", LEASE))
        assert answer[0] == 0
        assert server.waiting() == ["two.1-s", "inbox.1-.!m"]
        _, (missing, _, bell) = server.call(server.two.attend([("c", "two.1-s")]))
        assert (missing, bell.split()[:3]) == (0, ["grant", "1", "2"])
        assert server.waiting() == ["inbox.1-.!m"]
        assert server.expiry() == 0


def test_the_queue_of_a_message_does_not_expire_with_a_ticket_that_goes_back() -> None:
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.submit("m")
    server.call(server.one.release("c", "one.1-s", fence))
    server.now += LONG
    server.call(server.one.attend([("c", "one.2-s")]))
    assert (server.waiting(), server.expiry()) == (["two.1-s", "inbox.1-.!m"], 0)


def test_heartbeats_are_awaited_behind_a_message_too() -> None:
    """The server stood still before the first heartbeat of tickets behind a message."""
    server = Server()
    _, _, fence, _ = server.call(server.one.acquire("c", "one.1-s", LEASE))
    server.submit("m")
    server.call(server.two.acquire("c", "two.1-s", LEASE))
    server.call(server.one.acquire("c", "one.2-s", LEASE))
    server.now += LONG
    server.call(server.one.release("c", "one.1-s", fence))
    server.call(server.inbox.take("c", "one.3-s", LEASE))  # the message has its turn
    server.call(server.one.break_turn("c", server.fence()))
    server.call(server.one.attend([("c", "one.2-s")]))
    assert server.waiting() == ["two.1-s", "one.2-s"]


def test_a_ticket_that_goes_back_lets_one_message_more_wait() -> None:
    """A message that comes first after the standstill is counted without it: one more waits than may,
    however often that happens."""
    server = Server()
    handed_on(server)
    assert server.submit("m", most=0)[0] == 0
    assert server.waiting() == ["two.1-s", "inbox.1-.!m"]
    for _ in range(3):
        assert server.submit("n", most=1)[0] == -1
        server.call(server.two.attend([("c", "two.1-s")]))  # it is granted its turn anew
        assert server.waiting() == ["inbox.1-.!m"]
        server.now += LONG
        assert server.submit("n", most=1)[0] == -1
        assert server.waiting() == ["inbox.1-.!m"]
        server.call(server.inbox.take("c", "", LEASE))
        assert server.waiting() == ["two.1-s", "inbox.1-.!m"]


def messages_alone(name: str, call: str) -> Patch:
    """A script that puts nothing back but messages."""
    return lua(name, call, f"if string.find(member or '', SERVING, 1, true) then {call} end")


OF_AN_INBOX = "return_ticket(KEYS[2], KEYS[3], KEYS[4], ARGV[3], ARGV[5])"
#: Each script that takes over from a turn -> (its mutant, the test that must notice)
MUTANTS: dict[str, tuple[Patch, Callable[[], None]]] = {
    "acquire": (
        messages_alone("acquire", "return_ticket(KEYS[2], KEYS[3], KEYS[4], ARGV[4], ARGV[7])"),
        test_a_turn_that_nobody_heard_of_keeps_its_place),
    "attend": (
        messages_alone("attend", "return_ticket(holder, queue, waiters, ARGV[3], ARGV[5])"),
        test_the_queue_of_a_message_does_not_expire_with_a_ticket_that_goes_back),
    "submit": (
        messages_alone("submit", OF_AN_INBOX),
        test_a_message_does_not_overtake_a_turn_that_nobody_heard_of),
    "take": (
        messages_alone("take", OF_AN_INBOX),
        test_a_message_does_not_overtake_a_turn_that_nobody_heard_of),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("script", MUTANTS)
def test_a_script_that_loses_unheard_turns_is_noticed(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    patch, story = MUTANTS[script]
    patch(monkeypatch)
    expect_noticed(story)
