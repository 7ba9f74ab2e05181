"""docs/model.md says of each fault what notices it."""

from __future__ import annotations

from model.bounds import LARGE, SMALL
from model.mutants import MUTANTS, STORIES
from model.page import ALONE, PAGE, noticed, page
from model.spin import FOLDER


def test_the_page_is_of_today() -> None:
    text = PAGE.read_text()
    assert text == page(text), "cd tests && python -m model.page"


def test_two_means_notice_each_fault_or_there_is_a_reason() -> None:
    """No reason is kept for a fault that two means notice by now."""
    single = {name for name in {*STORIES, *MUTANTS} if sum(noticed(name).values()) < 2}
    assert single == ALONE.keys()


def test_the_page_names_every_promise_and_bound() -> None:
    text = PAGE.read_text()
    properties = (FOLDER / "properties.pml").read_text()
    names = properties.partition("hidden byte ")[2].partition(";")[0].replace("\n", " ")
    for promise in names.split(","):
        assert f"`{promise.strip()}`" in text
    for bound in (*SMALL, *LARGE):
        assert f"| {bound} |" in text
