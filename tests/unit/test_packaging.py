"""What is installed is what is in the repository."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from importlib.resources import files
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
checkout = pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")


@checkout
def test_every_folder_is_listed() -> None:
    """A package folder that is not listed would be missing from the wheel alone."""
    listed = set(
        tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    )
    found = {"ticketlock.lua"}
    for top in ("ticketlock", "stores", "brokers"):
        for init in (ROOT / top).rglob("__init__.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if top == "ticketlock" else ("ticketlock", *parts)))
    assert listed == found


def test_scripts_are_installed() -> None:
    """Every script can be read, and opens with its contract."""
    names = [path.name for path in files("ticketlock.lua").iterdir() if path.name.endswith(".lua")]
    assert "acquire.lua" in names
    for name in names:
        text = files("ticketlock.lua").joinpath(name).read_text()
        assert text.startswith("-- "), name
        if name not in (
            "delivering.lua",
            "handoff.lua",
            "holder.lua",
            "inbox.lua",
            "keeping.lua",
            "later.lua",
            "messages.lua",
            "returning.lua",
        ):  # functions that others use
            assert "-- KEYS" in text, name
            assert "-- Returns" in text, name


@checkout
def test_files_stay_small() -> None:
    """A file that outgrows 400 lines is two files."""
    for folder in ("ticketlock", "stores", "brokers", "lua", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.*"):
            if path.suffix in (".py", ".lua"):
                assert len(path.read_text().splitlines()) <= 400, path


def test_import_is_light() -> None:
    """Importing the package imports no driver and nothing of turns; that comes with the first use.

    redis-py alone takes three times as long as all of ours, the event types half of the rest.
    """
    late = ("redis", "sqlalchemy", "pymongo", "boto3", "confluent_kafka", "pika", "starlette")
    late += (
        "ruamel",
        "rich",
        "ticketlock.endpoints.registry",
        "ticketlock.events",
        "ticketlock.publishing.relay",
    )
    code = f"import sys, ticketlock; print([m for m in {late!r} if m in sys.modules])"
    code += "; print(set(ticketlock.__all__) - set(dir(ticketlock)))"
    code += "; from ticketlock import *; print(ConcurrentRedisLockStore.__name__, Turn.__name__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines() == ["[]", "set()", "ConcurrentRedisLockStore Turn"]


#: What lies about in a checkout that is deployed from, and is nobody else's business.
SECRETS = [
    "docs/deploy/.env", ".env", "docs/.env.local", "tests/server.key", "docs/deploy/tls.pem",
    "docs/rasa.db", "tests/bot.db-wal", "docs/deploy/events.log", "docs/endpoints.export.json",
]  # fmt: skip


@checkout
def test_no_secret_is_committed() -> None:
    """git ignores what a deployment puts beside the files."""
    for name in SECRETS[:-2]:
        done = subprocess.run(
            ["git", "check-ignore", "-q", name], cwd=ROOT, check=False, capture_output=True
        )
        if done.returncode == 128:
            pytest.skip("no repository of git")
        assert done.returncode == 0, name


@checkout
def test_no_secret_is_in_the_source_archive(tmp_path: Path) -> None:
    """They are left out of the sdist, `docs` and `tests` being in it as a whole."""
    tree = tmp_path / "tree"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "results")
    for name in ("docs", "tests", "benchmarks", "ticketlock", "stores", "brokers", "lua"):
        shutil.copytree(ROOT / name, tree / name, ignore=ignored)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in SECRETS:
        (tree / name).write_text("secret")
    build = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tree, check=True, capture_output=True
    )
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {"docs/deploy/compose.yaml", "docs/deploy/env.example", "tests/conftest.py"} <= names
    assert names.isdisjoint(SECRETS)


@checkout
def test_no_secret_is_in_the_image() -> None:
    """What Docker is given is named one by one, and each that the build needs is."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    assert patterns[0] == "*"
    given = {pattern[1:] for pattern in patterns if pattern.startswith("!")}
    assert given == {
        "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "ticketlock", "stores",
        "brokers", "lua",
    }  # fmt: skip
    assert all((ROOT / name).exists() for name in given)
    assert "COPY . ." in (ROOT / "docs/deploy/Dockerfile").read_text()
