"""The examples that pages of `docs/how-to/` show; as a program, it copies them into the pages.

A block of code whose first line ends with `title="docs/examples/NAME.py"` is that file, or, if the file
has the line `MARK`, what follows that line.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MARK = "# -- shown in docs/how-to --\n"
PAGES = sorted((ROOT / "docs" / "how-to").glob("*.md"))
BLOCK = re.compile(
    r'^(```python title="(docs/examples/\w+\.py)"\n)(.*?)^```$', re.MULTILINE | re.DOTALL
)


def example(name: str) -> str:
    """What a page shows of an example."""
    text = (ROOT / name).read_text()
    return text.partition(MARK)[2] or text


def shown(page: str) -> str:
    """The text of a page, with the examples as they are."""
    found = BLOCK.sub(lambda block: block[1] + example(block[2]) + "```", page)
    assert BLOCK.search(found), "no example is shown"
    return found


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(shown(path.read_text()))
