"""What becomes of answers to commands that are sent again."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest

from ticketlock.redis.commands import Command, InTransit


def sent(sent: InTransit, command: Command, now: float) -> None:
    sent.pack(deque([command]), now)


def made() -> Command:
    return Command(None, asyncio.get_running_loop().create_future(), 100.0, subject="a turn")


@pytest.fixture
def transit() -> InTransit:
    return InTransit(lambda subjects: " ".join(subjects).encode())


@pytest.mark.parametrize("heed", [True, False])
async def test_an_answer_before_it_is_sent_again(transit: InTransit, heed: bool) -> None:
    command = made()
    sent(transit, command, 1.0)
    assert transit.recall(lambda _: True, heed) == [command]
    assert transit.resolve(["first"]) == []
    assert command.over is heed
    left: deque[Any] = deque([command])
    assert bool(transit.pack(left, 2.0)) is not heed, "what has its answer is not sent again"


async def test_an_answer_after_it_was_sent_again(transit: InTransit) -> None:
    """A lease counts from when its command was sent: the first answer would make it too long."""
    command = made()
    answers: list[tuple[float, Any]] = []
    command.callback = lambda command, answer: bool(answers.append((command.sent_at, answer)))
    sent(transit, command, 1.0)
    transit.recall(lambda _: True, True)
    sent(transit, command, 2.0)
    transit.resolve("first")
    assert answers == []
    transit.resolve("second")
    assert answers == [(2.0, "second")]
