"""Run with a wheel installed: `python tests/whole_wheel.py REPOSITORY`.

Each file of the packages is in the wheel, as it is in the repository, and each module can be
imported where all extras are installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import ticketlock

#: Folder of the repository -> where the wheel has it.
FOLDERS = {"ticketlock": "", "stores": "stores", "brokers": "brokers", "lua": "lua"}
#: Run by a command, and by it alone.
PROGRAMS = ("__main__.py", "demo/replica.py")
INSTALLED = Path(ticketlock.__file__).parent


def main(repository: Path) -> None:
    assert repository not in INSTALLED.parents, "these are the sources: this proves nothing"
    modules = 0
    for folder, where in FOLDERS.items():
        for file in sorted((repository / folder).rglob("*")):
            if file.is_dir() or "__pycache__" in file.parts:
                continue
            there = INSTALLED / where / file.relative_to(repository / folder)
            assert there.read_bytes() == file.read_bytes(), f"{there} is another file"
            if there.suffix == ".py" and not there.as_posix().endswith(PROGRAMS):
                parts = there.relative_to(INSTALLED.parent).with_suffix("").parts
                try:
                    import_module(".".join(parts).removesuffix(".__init__"))
                except ModuleNotFoundError as error:
                    assert (error.name or "").partition(".")[0] == "rasa"  # noqa: PT017  # needs Rasa
                modules += 1
    assert modules > 300, f"only {modules} modules"
    print(f"{modules} modules are in the wheel, and can be imported")


main(Path(sys.argv[1]).resolve())
