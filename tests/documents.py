"""The documents as the tests read them: their blocks of code, their links and their headings.

A block of Python runs, a block of YAML is an `endpoints.yml`, and the commands of a shell block
exist. A comment above a block says what else it is:

    <!-- output -->             what the block above prints; `...` stands for anything in a line
    <!-- file: my_bot.py -->    it is saved under this name, for the page's commands and Python
    <!-- run by tests/… -->     this test runs it, because it needs a server or has no end
    <!-- not run: why -->       it cannot run

A block with `title="docs/examples/NAME.py"` is that file, or the end of it (`how_to_pages.py`); the
file's own tests run it. Python with a bare `await` or `async with` is a fragment of what stands
elsewhere on the page, and is compiled only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
#: Documents that are no pages: their links are checked, and their blocks are not.
PLAIN = ("CONTRIBUTING.md", "CHANGELOG.md")
NOTES = re.compile(r"output|file: [\w.]+|run by tests/[\w/]+\.py|not run: .+")

_BLOCK = re.compile(
    r"^(?:<!-- (?P<note>.*?) -->\n)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[^\"\n]+)\")?[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


class Block(NamedTuple):
    """A block of code.

    Attributes:
        place: file and line.
        note: what the comment above it says; empty without one.
        title: the file that it shows.
        output: what the page says that it prints; None if it does not say.
    """

    path: Path
    place: str
    language: str
    code: str
    note: str
    title: str | None = None
    output: str | None = None

    @property
    def fragment(self) -> bool:
        """Whether it is Python that does not stand by itself."""
        try:
            compile(self.code, self.place, "exec")
        except SyntaxError:
            compile(self.code, self.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            return True
        return False


def pages() -> list[Path]:
    """The README and every page below docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The blocks of a page in their order."""
    text = path.read_text()
    found: list[Block] = []
    for match in _BLOCK.finditer(text):
        note = match["note"] or ""
        if note == "output":
            found[-1] = found[-1]._replace(output=match["code"])
            continue
        place = f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        found.append(Block(path, place, match["language"], match["code"], note, match["title"]))
    return found


def all_blocks(*languages: str) -> list[Block]:
    """The blocks of all pages that are in one of the languages."""
    return [block for path in pages() for block in blocks(path) if block.language in languages]


def prose(text: str) -> str:
    """A document without its blocks and its inline code."""
    return re.sub(r"`[^`\n]*`", "", _BLOCK.sub("", text))


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """The links to files of this repository: the file, and the anchor in it, maybe empty."""
    for target in _LINK.findall(prose(path.read_text())):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield (path.parent / name).resolve() if name else path, anchor


def anchors(path: Path) -> set[str]:
    """What the headings of a document are linked by."""
    names = _HEADING.findall(_BLOCK.sub("", path.read_text()))
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", name).strip().lower()) for name in names}


def as_told(output: str, printed: str) -> bool:
    """Whether a program has printed what a page says."""
    pattern = re.escape(output.strip()).replace(re.escape("..."), "[^\n]*")
    return re.fullmatch(pattern, printed.strip()) is not None
