"""The table of faults in `docs/model.md`, made of the tables of the tests.

`cd tests && python -m model.page` writes it anew; `test_page.py` fails while the page says
something else.
"""

from __future__ import annotations

from pathlib import Path

from faults.test_explorer import MUTANTS as EXPLORED

from .mutants import IN_SCRIPTS, MUTANTS, STORIES

PAGE = Path(__file__).parents[2] / "docs" / "model.md"
BEGIN, END = "<!-- made by tests/model/page.py -->", "<!-- to here -->"

#: The explorer's names of faults that have another one in the stories.
_ALSO = {
    "acquire ignores the holder": "two are granted",
    "fence is not minted at hand-off": "the fence does not grow",
    "release without fence match": "a release that comes late ends the next turn",
    "attend takes nothing over": "a dead holder stays",
    "a reply is not found": "a message is handled again",
    "repeated acquire that grants queues again": "a repeated acquire that grants queues again",
}

_MESSAGES = "messages are not in the model"
_ONE = "the model has one conversation, and each call alone"
#: Why one means alone notices a fault.
ALONE = {
    "floor is ignored": "the model's store never has a higher fence than the server",
    "bare tickets live a lease": "tickets without a process are not in the model",
    "the dead are dropped slowly": "it costs time, and breaks no promise",
    "queue limit is off by one": "the model's queue has no limit",
    "counter never expires": "keys do not expire in the model",
    "one failure fails all": _ONE,
    "calls are shared backwards": _ONE,
    "the number of a late grant is not told": "the explorer's turns do not ask for their numbers",
    "waiters have the numbers of another use": "the explorer closes no store that others wait in",
    "the tracker store refuses nothing": "the stores have contract tests of their own",
    **dict.fromkeys(
        (
            "duplicates get a ticket", "the dead keep their messages",
            "dead waiters keep their messages", "anybody answers", "nobody is told of a reply",
            "carried tickets are served too", "a lost turn answers for what it had carried",
            "all are carried", "carried tickets leave the queue at once",
            "nobody is asked to stop", "those to come are not asked to stop",
            "those behind are asked to stop", "duplicates do not look",
            "heartbeats tell of no stop",
        ),
        _MESSAGES,
    ),
}  # fmt: skip


def noticed(name: str) -> dict[str, bool]:
    """By which means a fault is noticed."""
    mutant = MUTANTS.get(name)
    replayed = mutant is not None and mutant.patch is not None and mutant.replayed
    explored = name in EXPLORED or name in _ALSO
    return {
        "story": name in STORIES,
        "explorer": explored or replayed,
        "spin": mutant is not None,
        "compared": name in IN_SCRIPTS,
    }


def table() -> str:
    """A row for each fault."""
    rows = ["| fault | story | explorer | spin | compared | |", "|---|---|---|---|---|---|"]
    for name in [*STORIES, *(name for name in MUTANTS if name not in STORIES)]:
        marks = ["✓" if by else "" for by in noticed(name).values()]
        cells = " | ".join([name, *marks, ALONE.get(name, "")])
        rows.append(f"| {cells} |".replace("|  |", "| |").replace("|  |", "| |"))
    return "\n".join(rows)


def page(text: str) -> str:
    """The page with the table of today."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
