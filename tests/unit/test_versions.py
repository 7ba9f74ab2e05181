"""The versions of CHANGELOG.md, and what each says to those who come from the one before."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]

Version = tuple[int, ...]
#: Since this one each version says how replicas of it and of the version before work together.
UPGRADES_SINCE = (0, 2, 0)


def sections(text: str) -> list[tuple[str, str]]:
    """Headings of the second level and what stands under them, in their order."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def problems(changelog: str, project: str) -> list[str]:
    """What is wrong with a changelog of a project of this version."""
    found = sections(changelog)
    if found and found[0][0] == "Unreleased":
        found = found[1:]
    said = [f"{name!r} is not a version, as 0.1.0" for name, _ in found if not version(name)]
    if not found or found[0][0] != project:
        newest = found[0][0] if found else "missing"
        said.append(f"the newest version is {newest}, that of pyproject.toml is {project}")
    for (newer, _), (older, _) in pairwise(found):
        if version(newer) <= version(older):
            said.append(f"{newer} stands above {older}")
    for name, text in found:
        _, heading, rest = text.partition("\n### Upgrade\n")
        if version(name) >= UPGRADES_SINCE and not (heading and rest.partition("###")[0].strip()):
            said.append(f"{name} has no section 'Upgrade': how replicas are rolled to it and back")
    return said


def version(name: str) -> Version:
    """A version as numbers; empty when it is none."""
    return tuple(map(int, name.split("."))) if re.fullmatch(r"\d+\.\d+\.\d+", name) else ()


def test_the_changelog_is_that_of_the_project() -> None:
    """Its newest version is the project's; each has its section *Upgrade*."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert problems((ROOT / "CHANGELOG.md").read_text(), project) == []


UPGRADE = "\n### Upgrade\n\nRoll.\n"


def test_what_is_right_is_not_blamed() -> None:
    """With changes on top of the newest version, and without."""
    text = f"## 0.10.0\n{UPGRADE}\n## 0.2.0\n{UPGRADE}\n## 0.1.0\n\n- first\n"
    assert problems(text, "0.10.0") == []
    assert problems(f"# Changelog\n\n## Unreleased\n\n- more\n\n{text}", "0.10.0") == []


def test_what_is_wrong_is_named() -> None:
    """Each mistake has its sentence."""
    (said,) = problems("## 0.1.0\n", "0.2.0")
    assert said == "the newest version is 0.1.0, that of pyproject.toml is 0.2.0"
    (said,) = problems("## 0.2.0\n\n### Upgrade\n\n### Added\n## 0.1.0\n", "0.2.0")
    assert said.startswith("0.2.0 has no section 'Upgrade'")
    (said,) = problems(f"## 0.2.0\n{UPGRADE}\n## 0.3.0\n{UPGRADE}", "0.2.0")
    assert said == "0.2.0 stands above 0.3.0"
    assert problems("## Unreleased\n", "0.1.0") != []
    assert problems("## soon\n", "soon") == ["'soon' is not a version, as 0.1.0"]
