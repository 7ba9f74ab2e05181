"""What the site does beyond mkdocs: pages by folder, links to sources, and text for agents.

- `folder/*` in the nav stands for the pages of a folder that are named nowhere else in it.
- A link that leaves docs/ (`../tests/…`) leads to a copy of that file, as plain text.
- Each page is also there as Markdown, at its address with `.md` (`/start/`: `/start.md`), and
  `llms.txt` lists them.
"""

from __future__ import annotations

import posixpath
import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from markdownify import markdownify
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
#: A link's target, without its anchor.
_TARGET = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")

_PERMALINK = re.compile(r'<a [^>]*class="headerlink".*?</a>')

#: Page -> (title, first sentence, Markdown).
_pages: dict[str, tuple[str, str, str]] = {}


def on_files(files: Any, config: Any) -> Any:
    """Expand the patterns of the nav, and add the files that pages link to outside docs/."""
    pages = sorted(file.src_uri for file in files.documentation_pages())
    named = {uri for uri in _uris(config.nav) if uri in pages}
    config.nav = _expanded(config.nav, pages, named)
    for page in list(files.documentation_pages()):
        for target in _TARGET.findall(page.content_string):
            if source := _outside(page.src_uri, target):
                uri = _copy(source)
                if files.get_file_from_path(uri) is None:
                    text = (ROOT / source).read_text()
                    files.append(File.generated(config, uri, content=text))
    return files


def _uris(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [uri for item in (nav.values() if isinstance(nav, dict) else nav) for uri in _uris(item)]


def _expanded(nav: Any, pages: list[str], named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _expanded(item, pages, named) for title, item in nav.items()}
    if not isinstance(nav, list):
        return nav
    found: list[Any] = []
    for item in nav:
        if isinstance(item, str) and "*" in item:
            new = [page for page in pages if fnmatch(page, item) and page not in named]
            named.update(new)
            found += new
        else:
            found.append(_expanded(item, pages, named))
    return [item for item in found if not isinstance(item, dict) or any(item.values())]


def _outside(page: str, target: str) -> str | None:
    """The file of the repository that a link of a page leads to, if that is outside docs/."""
    path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
    inside = path.startswith("docs/") and not path.startswith(("docs/deploy/", "docs/examples/"))
    if inside or path == "docs/deploy/README.md" or not (ROOT / path).is_file():
        return None
    return path


def _copy(source: str) -> str:
    return f"source/{source}.txt"


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Lead the links that leave docs/ to the copies."""
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        source = _outside(page.file.src_uri, found[1])
        return found[1] if source is None else posixpath.relpath(_copy(source), here or ".")

    return _TARGET.sub(link, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Any) -> None:
    """Keep the page as Markdown; what is made from docstrings is read from the HTML."""
    text = page.markdown
    if "\n::: " in text:
        text = markdownify(_PERMALINK.sub("", html), heading_style="ATX")
    _pages[page.file.src_uri] = (page.title, _first_sentence(text), text)


def _first_sentence(text: str) -> str:
    prose = re.sub(r"```.*?```|<!--.*?-->", "", text, flags=re.DOTALL)
    paragraphs = (part for part in prose.split("\n\n") if re.match(r"\s*[*`\w]+ ", part))
    plain = re.sub(r"\]\([^)]*\)|\[", "", " ".join(next(paragraphs, "").split()))
    return plain.partition(". ")[0].rstrip(".:")


def on_post_build(config: Any) -> None:
    """Write the Markdown of each page, and llms.txt."""
    site, base = Path(config.site_dir), (config.site_url or "/").rstrip("/")
    listed = []
    for uri in dict.fromkeys([*_uris(config.nav), *_pages]):
        title, sentence, text = _pages[uri]
        address = uri.replace("/README.md", ".md")
        (site / address).parent.mkdir(parents=True, exist_ok=True)
        (site / address).write_text(text)
        listed.append(f"- [{title}]({base}/{address}): {sentence}")
    head = f"# {config.site_name}\n\n> {config.site_description}\n\n## Pages\n\n"
    (site / "llms.txt").write_text(head + "\n".join(listed) + "\n")
