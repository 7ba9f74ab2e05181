"""The table of the doctor's page, made of the faults that it knows.

`python tests/doctor_reference.py` writes it anew in docs/operations/doctor.md;
`unit/test_doctor_page.py` fails while the page says something else.
"""

from __future__ import annotations

import re
from pathlib import Path

from ticketlock.doctor import FAULTS

PAGE = Path(__file__).parents[1] / "docs" / "operations" / "doctor.md"
COMMAND = f"python tests/{Path(__file__).name}"
HEAD = "| finding | severity | why it matters | source |\n|---|---|---|---|\n"


def table() -> str:
    """A row for each fault, in the order of their names."""
    rows = (
        f"| `{fault.name}` | {fault.severity} | {fault.why} | {_linked(fault.source)} |\n"
        for _, fault in sorted(FAULTS.items())
    )
    return HEAD + "".join(rows)


def _linked(source: str) -> str:
    """A source with links: addresses, and pages of docs/."""
    text = re.sub(r"https?://[^\s,:]+(:[^\s,:]+)?", lambda found: f"<{found[0]}>", source)
    text = re.sub(r"docs/operations/doctor\.md", "this page", text)
    text = re.sub(r"docs/operations/(\w+)\.md", r"[\1](\1.md)", text)
    text = re.sub(r"docs/(guides|reference|concepts)/(\w+)\.md", r"[\2](../\1/\2.md)", text)
    return re.sub(r"docs/(\w+)\.md", r"[\1](../\1.md)", text)


def page() -> str:
    """The page with its table written anew."""
    text = PAGE.read_text()
    return re.sub(re.escape(HEAD) + r"(\|.*\n)*", lambda _: table(), text)


if __name__ == "__main__":
    PAGE.write_text(page())
