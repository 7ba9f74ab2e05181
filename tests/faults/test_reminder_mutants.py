"""Seeded mutants of reminders: the named test must notice each."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from contract import test_reminders as contract
from faults.mutation import Patch, expect_noticed, function, python

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import sessions
from ticketlock.server.bot_runner import BotRunner
from ticketlock.server.reminders import Reminders, _Commits
from ticketlock.server.serving import BotServing
from ticketlock.tracker import reminders
from ticketlock.turn import Turn

_prefixes = itertools.count(1)


class _Owner:
    """`pending` as a method, so that a piece of it can be replaced."""

    pending = staticmethod(reminders.pending)


def pending(old: str, new: str) -> Patch:
    """Replace a piece of `pending`, wherever it is used."""
    changed = python(_Owner, "pending", old, new)
    places = ("ticketlock.server.reminders", "ticketlock.server.bot_runner",
              "ticketlock.server.sessions")  # fmt: skip

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        changed(monkeypatch)
        for place in places:
            monkeypatch.setattr(f"{place}.pending", vars(_Owner)["pending"])

    return patch


DECIDES = contract.test_the_history_decides

#: name -> (what is broken, the test that must notice, its parameter)
MUTANTS: dict[str, tuple[Patch, Callable[..., Any], str]] = {
    # -- the job comes first, under one id, and replaces no other
    "put after the commit": (
        python(Turn, "commit", "await around.before(events)", "pass"),
        contract.test_its_job_is_there_before_its_event, ""),
    "put by its name": (
        python(Reminders, "put", "When(at=at, generation=message.message_id)",
               "When(at=at, name=reminder.name, generation=message.message_id)"),
        contract.test_jobs_that_are_not_wanted_go, ""),
    "an id of each reading": (
        function(reminders, "message_id", lambda event: f"reminder:{next(_prefixes)}"),
        contract.test_it_fires_once_as_documented, ""),
    # -- the history decides
    "the history is not asked": (
        python(BotRunner, "_fires", "reminder = pending(turn.tracker).get(name)", "return True"),
        DECIDES, "cancelled by name"),
    "the name again changes nothing": (
        pending("found[named or name] = name, event", "found[name] = name, event"),
        DECIDES, "the name again"),
    "what is cancelled fires": (
        pending("if not _cancels(event, one[1])", "if True"), DECIDES, "all are cancelled"),
    "any cancellation takes it": (
        pending("if not _cancels(event, one[1])", "if False"), DECIDES, "another name"),
    "one field is enough": (
        function(reminders, "_cancels", lambda event, reminder: event.name == reminder.name),
        DECIDES, "one field of two"),
    "messages of the user are not seen": (
        pending("not one[1].kill_on_user_msg and", ""), DECIDES, "a message of the user"),
    "any event of the user": (
        pending("event.text and found", "found"), DECIDES, "an event of the user without text"),
    "kept ones are taken too": (
        pending("not one[1].kill_on_user_msg and one[0] != event.message_id", "False"),
        contract.test_a_message_of_the_user_comes_first, ""),
    "reverted ones fire": (
        pending("if id(event) in applied", ""), DECIDES, "reverted"),
    "those of before a restart fire": (
        pending("if id(event) in applied", ""), DECIDES, "restarted"),
    "an expired session": (
        python(BotRunner, "_fires", "and not self._sessions.expired(turn, due_at(reminder))", ""),
        contract.test_a_session_that_expired, ""),
    "late is too late": (
        python(BotRunner, "_fires", "due_at(reminder)", "__import__('time').time() + 3700"),
        contract.test_late_is_better_than_never, ""),
    "again after the window": (
        python(BotRunner, "run", "since = 0.0", "pass"),
        contract.test_it_fires_once_as_documented, ""),
    "a long session ends them": (
        function(sessions, "pending", lambda tracker: {}), contract.test_a_long_session_ends, ""),
    "a message stops it": (
        python(BotRunner, "_call", "messages[0].reminder is None", "True"),
        contract.test_a_message_that_stops_others, "rollback"),
    # -- what goes, and where
    "jobs stay": (
        python(_Commits, "after", "if gone:", "if False:"),
        contract.test_jobs_that_are_not_wanted_go, ""),
    "jobs that are wanted go": (
        python(_Commits, "after", "self._known - still - {self.own}", "self._known"),
        contract.test_jobs_that_are_not_wanted_go, ""),
    "all conversations have one": (
        python(Reminders, "remove", "inbox.cancel(turn.sender_id, name)",
               "inbox.cancel('d', name)"),
        contract.test_equal_names_in_two_conversations, ""),
    "replies go to the channel of the last message": (
        python(BotServing, "_attempt", "(message if asked else one).input_channel",
               "one.input_channel"),
        contract.test_replies_go_where_those_of_its_message_went, ""),
}  # fmt: skip


@pytest.mark.mutants
@pytest.mark.parametrize("name", MUTANTS)
def test_reminder_mutant(
    name: str, monkeypatch: pytest.MonkeyPatch, redis_server: EmbeddedRedis
) -> None:
    patch, test, parameter = MUTANTS[name]
    patch(monkeypatch)

    async def run() -> None:
        async with contract.world_on(contract.redis_locks(redis_server)) as world:
            given: dict[str, Any] = {
                "world": world, "monkeypatch": monkeypatch, "name": parameter, "policy": parameter,
            }  # fmt: skip
            names = inspect.signature(test).parameters
            await asyncio.wait_for(test(**{name: given[name] for name in names}), 40)

    expect_noticed(lambda: asyncio.run(run()))
