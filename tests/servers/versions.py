"""Versions of ticketlock as folders for PYTHONPATH: one from the repository's history, or one
made of this checkout and changed. Each has its files of `docs/deploy` in `deploy`, for a version
need not know the settings of the next."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from . import missing
from .processes import carry_out

ROOT = Path(__file__).parents[2]
#: Versions whose replicas must work together with those of this checkout, by their commits.
COMMITS = {
    "0.1.0": "7977942",
    "0.2.0": "4e98f24",
    "0.3.0": "ea6c289",
    "0.4.0": "edcb179",
    "0.5.0": "b36d655",
    "0.6.0": "645b02e",
    "0.7.0": "cbbd0b8",
    "0.8.0": "091b25a",
}
BEFORE = COMMITS["0.8.0"]

#: Tells where a process has each part of the package from.
_WHERE = """
import ticketlock, ticketlock.stores.sql, ticketlock.brokers.file
from importlib.resources import files
for name in ("ticketlock", "ticketlock.stores", "ticketlock.brokers", "ticketlock.lua"):
    print(files(name))
"""


def environment(version: Path | None) -> dict[str, str]:
    """Variables for a process that is to run a version; None: this checkout."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return variables if version is None else {**variables, "PYTHONPATH": str(version)}


def before(commit: str = BEFORE) -> Path:
    """The wheel of a commit of this repository, unpacked; it is built once."""
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        missing(f"the commit {commit}", "this clone lacks it; git fetch --unshallow")
    home = ROOT / ".tools" / "versions"
    folder = home / commit
    if not folder.exists():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.resolve()) as name:
            made = _build(commit, Path(name))
            try:
                made.rename(folder)
            except OSError:  # another run has built it meanwhile
                assert folder.exists()
    check(folder)
    return folder


def changed(folder: Path, files: Mapping[str, str]) -> Path:
    """This checkout as a version, where the files that match a pattern begin with another text."""
    package = folder / "ticketlock"
    unwanted = shutil.ignore_patterns("*.pyc.*")  # bytecode that is just being written
    inner = [(name, package / name) for name in ("stores", "brokers", "lua")]
    for source, target in (("ticketlock", package), *inner, ("docs/deploy", folder / "deploy")):
        shutil.copytree(ROOT / source, target, ignore=unwanted, dirs_exist_ok=True)
    for pattern, text in files.items():
        found = list(package.glob(pattern))
        assert found, f"there is no file {pattern}"
        for path in found:
            path.write_text(text + path.read_text())
    check(folder)
    return folder


def check(folder: Path) -> None:
    """Raise AssertionError unless a process with this version has all of it from the folder."""
    done = subprocess.run(
        [sys.executable, "-c", _WHERE], env=environment(folder), capture_output=True, text=True,
        cwd="/", check=True,
    )  # fmt: skip
    places = done.stdout.splitlines()
    expected = folder.resolve() / "ticketlock"
    for place in places:
        # A namespace package may print as MultiplexedPath('...').
        path = Path(place.removeprefix("MultiplexedPath('").removesuffix("')"))
        assert path.resolve().is_relative_to(expected), f"{place} is not in {expected}"
    assert len(places) == 4


def _build(commit: str, work: Path) -> Path:
    source, wheels, made = work / "source", work / "wheels", work / "made"
    source.mkdir()
    archive = work / "source.tar"
    carry_out(["git", "-C", str(ROOT), "archive", "--output", str(archive), commit])
    carry_out(["tar", "-xf", str(archive), "-C", str(source)])
    uv = _uv()
    carry_out([uv, "build", "--quiet", "--wheel", "--out-dir", str(wheels), str(source)])
    (wheel,) = wheels.glob("*.whl")
    where = ["--python", sys.executable, "--target", str(made)]
    carry_out([uv, "pip", "install", "--quiet", "--no-deps", *where, str(wheel)])
    shutil.copytree(source / "docs" / "deploy", made / "deploy")
    return made


def _uv() -> str:
    ours = ROOT / ".tools" / "bin" / "uv"
    found = str(ours) if ours.exists() else shutil.which("uv")
    if found is None:
        missing("uv", "make test puts it into .tools")
    return str(found)


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
