"""The example of CONTRIBUTING.md: a folder and one line make a backend that keeps the contract."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEADING = "## Adding a backend"
_BLOCK = re.compile(
    r"^<!-- (?P<note>[^\n]+) -->\n```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_CHANGE = re.compile(r"(?P<where>below|before): (?P<line>.+) in (?P<path>\S+)")


def blocks(text: str) -> list[tuple[str, str]]:
    """What the section says about each of its blocks of code, and the code."""
    section = text.partition(f"\n{HEADING}\n")[2].partition("\n## ")[0]
    return [(match["note"], match["code"]) for match in _BLOCK.finditer(section)]


def put(root: Path, note: str, code: str) -> Path:
    """Write a block to its file: a new one, or below or before a line; the file's path."""
    if note.startswith("file: "):
        path = root / note.removeprefix("file: ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
        return path
    change = _CHANGE.fullmatch(note)
    assert change, note
    path = root / change["path"]
    lines = path.read_text().splitlines(keepends=True)
    (place,) = [i for i, line in enumerate(lines) if line.startswith(change["line"])]
    if change["where"] == "below":
        lines.insert(place + 1, code)
    else:
        lines.insert(place, f"{code.rstrip()}\n\n\n")
    path.write_text("".join(lines))
    return path


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A module of Python, on the copy."""
    environment = {
        k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHONPATH"))
    }
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to which the example is added."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("ticketlock", "stores", "brokers", "lua", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    for name in ("pyproject.toml", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, root / name)
    for note, code in blocks((ROOT / "CONTRIBUTING.md").read_text()):
        put(root, note, code)
    return root


@pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")
class TestExample:
    def test_it_is_a_folder_and_one_line(self, copy: Path) -> None:
        """Outside of tests/ the example adds one folder, and a line to the registry."""
        changed = {}
        for path in copy.rglob("*.py"):
            name = path.relative_to(copy)
            before = (ROOT / name).read_text() if (ROOT / name).exists() else ""
            if name.parts[0] != "tests" and path.read_text() != before:
                changed[str(name)] = path.read_text().count("\n") - before.count("\n")
        assert changed.pop("ticketlock/endpoints/registry.py") == 1
        assert {Path(name).parent for name in changed} == {Path("brokers/spool")}

    def test_it_keeps_the_contract(self, copy: Path) -> None:
        """The suite of all event brokers, and the rule that imports run down."""
        tests = ("tests/contract/test_event_brokers.py", "tests/unit/test_architecture.py")
        plain = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
        done = run(copy, "pytest", *plain, *tests, "-k", "spool or architecture")
        assert done.returncode == 0, done.stdout + done.stderr
        passed = re.search(r"(\d+) passed", done.stdout)
        assert passed is not None
        assert int(passed[1]) >= 12, done.stdout

    def test_a_file_of_settings_may_name_it(self, copy: Path) -> None:
        """`config check` accepts the type and its keys, and refuses others."""
        section = "lock_store: {type: in_memory}\nevent_broker:\n  type: spool\n  path: events\n"
        (copy / "endpoints.yml").write_text(section)
        done = run(copy, "ticketlock", "config", "check", "endpoints.yml")
        assert done.returncode == 0, done.stdout + done.stderr
        (copy / "endpoints.yml").write_text(f"{section}  topic: x\n")
        done = run(copy, "ticketlock", "config", "check", "endpoints.yml")
        assert done.returncode != 0
        assert "topic" in done.stdout + done.stderr
