"""How asynchronous tests fail: by an assertion, in a task or a callback of theirs, or too late."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from documents import ROOT

PLANTED = """
    import asyncio, gc
    import pytest

    async def test_good():
        await asyncio.sleep(0)

    async def test_wrong():
        await asyncio.sleep(0)
        assert not "wrong"

    async def test_task():
        async def fail():
            raise ValueError("in a task")

        asyncio.create_task(fail())
        await asyncio.sleep(0.01)
        gc.collect()

    async def test_callback():
        asyncio.get_running_loop().call_soon(int, "in a callback")
        await asyncio.sleep(0.01)

    async def test_forgotten():
        asyncio.sleep(0)

    @pytest.mark.bound(0.1)
    async def test_late():
        await asyncio.Event().wait()
"""
REASONS = (
    "AssertionError: assert not 'wrong'",
    "ValueError: in a task",
    "ValueError: invalid literal for int() with base 10: 'in a callback'",
    "coroutine 'sleep' was never awaited",
    "TimeoutError",
)


def test_planted_failures_fail(tmp_path: Path) -> None:
    """Each for its reason, and what comes after it runs."""
    (tmp_path / "test_it.py").write_text(textwrap.dedent(PLANTED))
    # Without the other plugins: it takes seconds to load them.
    plugins = ["-p", "anyio", "-p", "pytest_timeout", "-p", "conftest", "-p", "no:cacheprovider"]
    ini = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *plugins, *ini, "--tb=short", str(tmp_path)],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(ROOT / "tests"),
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "5 failed, 1 passed" in done.stdout, done.stdout
    for reason in REASONS:
        assert reason in done.stdout, done.stdout
