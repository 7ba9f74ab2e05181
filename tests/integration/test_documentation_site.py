"""The site of the documents, as `make docs` builds it: its readers fetch it from its own host alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from documents import ROOT
from servers.chromium import chromium

#: A repository on GitHub: for one, the theme would ask for its stars.
ADDRESSES = {
    "SITE_URL": "https://docs.example/",
    "REPOSITORY_URL": "https://github.com/somebody/ticketlock",
}
#: Links that a browser does not follow by itself.
NOT_FETCHED = {"canonical", "next", "prev", "edit"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    command += ["-f", str(ROOT / "docs/site/mkdocs.yml"), "-d", str(folder)]
    environment = {**os.environ, **ADDRESSES, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class Fetched(HTMLParser):
    """What a page makes a browser fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and given.get("rel") not in NOT_FETCHED:
            self.addresses.append(given.get("href") or "")
        sources = ("src", "srcset", "data", "poster")
        self.addresses += [value for name, value in attrs if name in sources and value]


def test_pages_and_styles_name_no_other_host(site: Path) -> None:
    """Scripts, styles, fonts and images are files of the site."""
    pages = list(site.rglob("*.html"))
    styles = list(site.rglob("*.css"))
    assert len(pages) > 40
    assert styles
    named = {(page, address) for page in pages for address in Fetched(page.read_text()).addresses}
    for style in styles:
        found = re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')]+)", style.read_text())
        named |= {(style, address) for address in found if not address.startswith("data:")}
    assert len(named) > 200
    assert [(path, address) for path, address in named if urlsplit(address).netloc] == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(site: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.slow
def test_a_browser_asks_no_other_host(site: Path, served: str) -> None:
    """Nor do the theme's scripts, on any page; each page's images are there."""
    with chromium() as browser:
        browser.size(1200, 900)
        for page in sorted(site.rglob("index.html")):
            browser.open(f"http://{served}/{page.relative_to(site)}")
            # The theme has started its components, which ask for what they need at once.
            browser.until("typeof component$ !== 'undefined'")
            assert browser.run("[...document.images].every(image => image.naturalWidth > 0)"), page
        fetched = [urlsplit(address) for address in browser.requests]
    assert len(fetched) > 200
    assert [address for address in fetched if address.netloc not in ("", served)] == []
