"""What observers, metrics and traces cost who does not use them."""

from __future__ import annotations

import subprocess
import sys

#: Without the extras: what they bring cannot be imported, not even where it is installed.
CODE = """
import asyncio, sys

for name in ("opentelemetry", "prometheus_client"):
    sys.modules[name] = None

from ticketlock import Conversations
from ticketlock.observers import Observers

tests = []


class Counted(Observers):
    @property
    def of_turns(self):
        tests.append(1)
        return False

    of_turns = of_turns.setter(lambda self, value: None)


async def main():
    async with Conversations() as conversations:
        store = conversations.lock_store
        store.observers = Counted()
        for _ in range(10):
            async with conversations.turn("c") as turn:
                turn.add({"event": "user", "text": "hello"})
        assert len(tests) == 10, tests
        for _ in range(10):
            async with store.lock("c"):
                pass
        assert len(tests) == 10, tests
    ours = ("observed", "otel", "prometheus", "metrics")
    print([name for name in ours if "ticketlock." + name in sys.modules])


asyncio.run(main())
"""


def test_without_the_extras_a_turn_costs_one_test_of_an_attribute_and_no_import() -> None:
    """One a turn, none a lock; and nothing of ours that needs them is imported."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_what_needs_an_extra_says_so() -> None:
    """`ticketlock run --otel`, and GET /metrics, name the pip line."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None; from ticketlock.cli import main; "
        "sys.argv = ['ticketlock', 'run', '--otel', '--endpoints', '/dev/null']; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2, done
    assert 'pip install "ticketlock[otel]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_spans_that_go_nowhere_are_told() -> None:
    """`ticketlock run --otel` without an SDK warns, and with one does not."""
    code = (
        "import sys; from opentelemetry import trace; from ticketlock.cli import deployment\n"
        "if sys.argv[1:]: import opentelemetry.sdk.trace as sdk; "
        "trace.set_tracer_provider(sdk.TracerProvider())\n"
        "deployment._otel()"
    )
    for words, said in ([], "--otel: no Ope"), (["sdk"], ""):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert done.stderr[: len("--otel: no Ope")] == said
