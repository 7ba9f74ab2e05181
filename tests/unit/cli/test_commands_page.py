"""`docs/reference/commands.md` has every command and option, and what its examples print."""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from ticketlock import Conversations, cli
from ticketlock.cli import _parser
from ticketlock.redis.embedded import EmbeddedRedis

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "commands.md"
TEXT = PAGE.read_text()
SECTIONS = dict(
    re.findall(r"^## `(ticketlock .*?)`\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
)
EXAMPLES = re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL)


def commands(parser: argparse.ArgumentParser, path: str) -> Iterator[tuple[str, set[str]]]:
    """Each command that does something, with its options."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    for group in groups:
        for name, one in group.choices.items():
            yield from commands(one, f"{path} {name}")
    if not groups:
        options = {word for one in parser._actions for word in one.option_strings}
        yield path, {word for word in options if word.startswith("--")} - {"--help"}


COMMANDS = dict(commands(_parser(), "ticketlock"))


def test_the_table_has_every_command() -> None:
    """It is what a reader looks at first: one row or more for each word behind `ticketlock`."""
    table = TEXT.partition("| command |")[2].partition("\n\n")[0]
    listed = set(re.findall(r"\[`(\w+)", table))
    assert listed == {name.split()[1] for name in COMMANDS}


def section(command: str) -> str:
    """Its own, or that of its group."""
    return SECTIONS.get(command) or SECTIONS[command.rpartition(" ")[0]]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_options_on_the_page(command: str) -> None:
    text = section(command)
    assert COMMANDS[command] - set(re.findall(r"--[a-z-]+", text)) == set()
    if command not in SECTIONS:
        assert f"| `{command.rpartition(' ')[2]}" in text


def test_no_option_on_the_page_is_unknown() -> None:
    for name, text in SECTIONS.items():
        known = {o for c in COMMANDS if c == name or c.startswith(f"{name} ") for o in COMMANDS[c]}
        named = set(re.findall(r"(?<=`)--[a-z-]+", re.sub(r"```.*?```", "", text, flags=re.DOTALL)))
        assert named <= known, (name, named - known)


def test_every_exit_status_is_on_the_page() -> None:
    text = TEXT.partition("## Exit status")[2].partition("\n## ")[0]
    statuses = [cli.EXIT_OK, cli.EXIT_FAILED, cli.EXIT_BAD_INPUT, cli.EXIT_UNAVAILABLE]
    assert re.findall(r"^\| (\d+) \|", text, re.MULTILINE) == [str(status) for status in statuses]
    assert f"| {cli.EXIT_SIGNAL} + n |" in text


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_examples_print_what_the_page_says(
    example: str, redis_server: EmbeddedRedis, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endpoints.yml").write_text("tracker_store: {type: sql, db: bot.db}\n")
    asyncio.run(_say_hi())
    for line, wanted in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", example, re.MULTILINE):
        words = shlex.split(line.replace("$REDIS_URL", redis_server.url))
        assert words[0] == "ticketlock"
        cli.main(words[1:])
        assert fnmatchcase(capsys.readouterr().out, wanted.replace("...", "*"))


async def _say_hi() -> None:
    async with Conversations.from_endpoints("endpoints.yml") as conversations:
        async with conversations.turn("anna") as turn:
            turn.add({"event": "user", "text": "hi"})
