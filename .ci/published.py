"""Prepare a checkout for an index: `python .ci/published.py https://github.com/OWNER/NAME v0.3.0`.

The tag must be the version. The README's links become links into that tag, and the address of the
repository goes into the metadata: neither is known before somebody publishes from somewhere.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def absolute(text: str, address: str, tag: str) -> str:
    """The README with links that work anywhere."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found[1] else "blob"
        return f"{found[1]}[{found[2]}]({address}/{kind}/{tag}/{found[3]})"

    return _LINK.sub(link, text)


def with_urls(pyproject: str, address: str, tag: str) -> str:
    """pyproject.toml with the project's addresses."""
    urls = {
        "Repository": address,
        "Documentation": f"{address}/blob/{tag}/docs/index.md",
        "Changelog": f"{address}/blob/{tag}/CHANGELOG.md",
        "Issues": f"{address}/issues",
    }
    table = "".join(f'{name} = "{url}"\n' for name, url in urls.items())
    return pyproject.replace(
        "[project.scripts]\n", f"[project.urls]\n{table}\n[project.scripts]\n", 1
    )


def main(address: str, tag: str) -> None:
    """Change the files of the current folder; exits where the tag is not the version."""
    readme, pyproject = Path("README.md"), Path("pyproject.toml")
    version = re.search(r'^version = "(.*)"$', pyproject.read_text(), re.MULTILINE)
    if version is None or tag != f"v{version[1]}":
        sys.exit(f"the tag {tag} is not the version of pyproject.toml: v{version and version[1]}")
    readme.write_text(absolute(readme.read_text(), address, tag))
    pyproject.write_text(with_urls(pyproject.read_text(), address, tag))


if __name__ == "__main__":
    main(*sys.argv[1:])
