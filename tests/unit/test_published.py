"""What is prepared for those who publish: links for an index page, workflows, issue forms."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from ruamel.yaml import YAML

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ADDRESS = "https://git.example/somebody/ticketlock"
checkout = pytest.mark.skipif(not (ROOT / ".ci").is_dir(), reason="no folder .ci in the archive")


def published(folder: Path, tag: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a copy of what it changes."""
    for name in ("README.md", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    command = [sys.executable, ROOT / ".ci/published.py", ADDRESS, tag]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def version() -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert isinstance(project["version"], str)
    return project["version"]


@checkout
def test_links_work_on_an_index_page(tmp_path: Path) -> None:
    """Each link of the README is absolute, to the tag; the metadata has the addresses."""
    done = published(tmp_path, f"v{version()}")
    assert done.returncode == 0, done.stderr
    targets = re.findall(r"\]\(([^)]+)\)", (tmp_path / "README.md").read_text())
    assert f"{ADDRESS}/blob/v{version()}/docs/start.md" in targets
    assert f"{ADDRESS}/raw/v{version()}/docs/images/ticket.svg" in targets
    assert all(target.startswith(ADDRESS) for target in targets)
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Repository"] == ADDRESS
    assert project["scripts"]["ticketlock"]


@checkout
def test_a_tag_is_a_version(tmp_path: Path) -> None:
    """Another tag publishes nothing."""
    done = published(tmp_path, "v9.9.9")
    assert done.returncode == 1
    assert f"v{version()}" in done.stderr


def parsed(path: Path) -> Any:
    return YAML(typ="safe").load(path.read_text())


@checkout
def test_ci_runs_every_python_that_is_promised() -> None:
    """The matrix, and the classifiers of the package."""
    matrix = parsed(ROOT / ".github/workflows/ci.yml")["jobs"]["suite"]["strategy"]["matrix"]
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    promised = [found[1] for c in classifiers if (found := re.search(r":: (3\.\d+)$", c))]
    assert matrix["python"] == promised


@checkout
@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms(name: str) -> None:
    """They have what a form needs; ids are unique."""
    form = parsed(ROOT / f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    for field in form["body"]:
        assert field["type"] in ("textarea", "input", "dropdown")
        assert field["attributes"]["label"]
        assert (field["type"] == "dropdown") == ("options" in field["attributes"])
