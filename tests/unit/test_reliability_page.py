"""docs/reliability.md says what was measured, and names tests that exist."""

from __future__ import annotations

import re

from reliability.results import read
from reliability_page import COMMAND, PAGE, ROOT, page


def test_its_tables_are_the_results() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write them anew: {COMMAND}"


def test_each_promise_has_its_test() -> None:
    """It names a test, or a story of the protocol, that is in the file it links to."""
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        found = re.findall(r"\[`(\w+)`\]\((\S+)\)", row)
        assert found, row
        for name, file in found:
            source = (PAGE.parent / file).resolve().read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), row


def test_no_result_hides_a_broken_promise() -> None:
    """What is published as kept was kept; the page has a line for what was not."""
    text = PAGE.read_text(encoding="utf-8")
    for run in read():
        broken = [kind for kind, count in run["violations"].items() if count]
        assert run["ok"] == (not broken and not run["hanging_workers"]), run["server"]
        if not run["ok"]:
            assert f"seed {run['seed']}" in text, f"say what happened with seed {run['seed']}"


def test_it_links_to_what_can_be_run() -> None:
    assert "make reliability" in PAGE.read_text(encoding="utf-8")
    assert "\nreliability:" in (ROOT / "Makefile").read_text(encoding="utf-8")
