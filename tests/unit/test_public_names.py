"""Public names are added by a command, and go by way of a DeprecationWarning."""

from __future__ import annotations

import argparse

from public_names import COMMAND, _cli, _object, collect, listed, problems


def test_the_public_names_are_those_of_the_list() -> None:
    """Python, commands and options, keys of endpoints.yml, HTTP."""
    found = problems(listed(), collect())
    assert not found, "\n\n".join(found)


def test_each_kind_of_name_is_listed() -> None:
    """One that everybody uses, of each."""
    assert {
        "python ticketlock.ConcurrentRedisLockStore.lock(0 conversation_id)",
        "python ticketlock.Conversations.turn(wait_timeout=)",
        "python ticketlock.server.create_app(0 conversations)",
        "python ticketlock.Holder.fence",
        "cli ticketlock run --bot",
        "cli ticketlock break CONVERSATION",
        "endpoints lock_store: concurrent_redis: lease",
        "http POST /webhooks/rest/webhook body message",
        "http POST /webhooks/rest/webhook body message_id=",
        "http GET /live",
    } <= listed()


class Before:
    """A public class."""

    def take(self, name: str, *, soon: bool = False) -> None: ...


class After:
    """The same, changed."""

    def take(self, name: str, how: str, *, later: bool = False) -> None: ...


def test_a_change_says_what_to_do() -> None:
    """What is gone needs a warning first, what is needed a default, what is new the command."""
    for each in (Before, After):
        each.__module__ = "ticketlock.example"
    known, found = set(_object("c", Before)), set(_object("c", After))
    assert known == {"c", "c.take", "c.take(0 name)", "c.take(soon=)"}
    gone, forced, new = problems(known, found)
    assert "c.take(soon=)" in gone
    assert "DeprecationWarning" in gone
    assert "c.take(1 how)" in forced
    assert "default" in forced
    assert "c.take(later=)" in new
    assert COMMAND in new
    assert problems(known, known) == []


def test_options_of_commands_are_names() -> None:
    """Each spelling of an option, and what a command is given without one."""
    parser = argparse.ArgumentParser()
    command = parser.add_subparsers().add_parser("show")
    command.add_argument("what", metavar="WHAT")
    command.add_argument("-j", "--json", action="store_true")
    assert set(_cli(parser, "t")) == {"t show", "t show WHAT", "t show -j", "t show --json"}
