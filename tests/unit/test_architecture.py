"""The folders of the library, from the ground up: each imports only those below it.

Late imports and those for type checkers count too. `endpoints/registry.py` alone names backends,
as texts; CONTRIBUTING.md says what each folder is for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: From the ground up; folders of one line do not import each other, but for those named below.
FLOORS = (
    ("errors",),
    ("checks", "imports", "observers", "plain_json", "process", "progress"),
    ("aio", "checker", "files", "settings", "events"),
    ("domain",),
    ("redis", "tracker"),
    ("locks", "publishing"),
    ("telemetry", "event_service", "deliveries", "inbox"),
    ("actions",),
    ("stores",),
    ("brokers",),
    ("endpoints",),
    ("turn", "rasa"),
    ("serving", "observed_turn"),
    ("messages",),
    ("conversations",),
    ("__init__",),
    ("server",),
    ("demo", "doctor", "stress"),
    ("cli",),
    ("__main__",),
)
FLOOR_OF = {name: floor for floor, names in enumerate(FLOORS) for name in names}


def imports(root: Path) -> dict[str, set[str]]:
    """Module -> the modules of ours that it imports, wherever in it that stands."""
    modules = {_module(path, root): path for path in _files(root)}
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        found[module] = set(_imported(ast.parse(path.read_text()), package, modules)) - {module}
    return found


def _files(root: Path) -> Iterator[Path]:
    for folder in ("ticketlock", "stores", "brokers"):
        yield from (root / folder).rglob("*.py")


def _module(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts if parts[0] == "ticketlock" else ("ticketlock", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(tree: ast.AST, package: str, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            name = ".".join(part for part in (base, node.module) if part)
            for alias in node.names:
                whole = f"{name}.{alias.name}"
                if whole in modules or name in modules:
                    yield whole if whole in modules else name
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


def _folder(module: str) -> str:
    """What of `ticketlock` a module is in; a name that it hands on is its own."""
    return [*module.split("."), "__init__"][1]


def upward(found: Mapping[str, set[str]]) -> list[str]:
    """The imports that do not run down."""
    return [
        f"{module} -> {other}"
        for module, others in found.items()
        for other in sorted(others)
        if _folder(module) != _folder(other)
        and FLOOR_OF[_folder(module)] <= FLOOR_OF[_folder(other)]
        # What is in ticketlock/__init__.py may be had by all who are above the ground: the version.
        and other != "ticketlock"
    ]


def circle(found: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring; empty if there are none."""
    left = {module: set(others) for module, others in found.items()}
    while ends := [module for module, others in left.items() if not others & left.keys()]:
        for module in ends:
            del left[module]
    return sorted(left)


@pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")
def test_imports_run_down() -> None:
    found = imports(ROOT)
    assert len(found) > 200
    assert upward(found) == []


def test_a_planted_import_is_found(tmp_path: Path) -> None:
    """One that runs up, wherever it stands, and a ring of two files in one folder."""
    for folder in ("ticketlock/redis", "ticketlock/locks", "stores", "brokers"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ticketlock/locks/lock.py").write_text("from .store import A\n")
    (tmp_path / "ticketlock/locks/store.py").write_text("def f():\n    from .lock import B\n")
    for up in (
        "from ..locks.lock import C\n",
        "def f():\n    from ..locks import lock\n",
        "if TYPE_CHECKING:\n    import ticketlock.locks.lock\n",
    ):
        (tmp_path / "ticketlock/redis/link.py").write_text(up)
        found = imports(tmp_path)
        assert upward(found) == ["ticketlock.redis.link -> ticketlock.locks.lock"]
    assert set(circle(found)) >= {"ticketlock.locks.lock", "ticketlock.locks.store"}


@pytest.mark.skipif(not (ROOT / "ticketlock").is_dir(), reason="the sources are removed")
def test_no_circle_of_imports() -> None:
    """Among files, late imports and those for type checkers included."""
    found = imports(ROOT)
    found["ticketlock"] = set()  # a face: it hands names on, and gives the version
    assert circle(found) == []
