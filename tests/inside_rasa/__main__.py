"""`python -m inside_rasa`: our classes inside a real Rasa, and Rasa's own beside them."""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from ticketlock.redis.embedded import EmbeddedRedis

from . import reminders, scenarios
from .environment import ROOT, NotHere, environ, model, prepare, versions
from .fleet import Fleet
from .kinds import KINDS, Kind
from .migration import MIGRATIONS, follow

#: The exit status where Rasa cannot be had: neither passed nor failed.
NOT_RUN = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make rasa", description=__doc__)
    parser.add_argument("--runs", type=int, default=6, help="bursts for each kind (%(default)s)")
    parser.add_argument("--kills", type=int, default=2, help="in each storm (%(default)s)")
    parser.add_argument(
        "--kind", choices=[*KINDS, *MIGRATIONS], action="append", help="only these (all)"
    )
    parser.add_argument("--versions", action="store_true", help="print what is installed, too")
    args = parser.parse_args()
    try:
        rasa = prepare()
    except NotHere as missing:
        print(f"NOT RUN, nothing was tested inside Rasa: {missing}", file=sys.stderr)
        return NOT_RUN
    if args.versions:
        print(versions(rasa))
    command = rasa, model(rasa)
    failed = _by_hand(rasa) + _facts(rasa, "domain_facts.py", "domain/rasa.json")
    failed += _facts(rasa, "action_facts.py", "actions/rasa.json")
    for name in args.kind or [*MIGRATIONS, *KINDS]:
        if name in MIGRATIONS:
            print(f"\n{name}", flush=True)
            failed += asyncio.run(follow(name, command))
            continue
        with tempfile.TemporaryDirectory() as folder, KINDS[name]() as kind:
            print(f"\n{name}", flush=True)
            failed += asyncio.run(_run(kind, command, Path(folder), args))
    print("\nfailed" if failed else "\npassed")
    return 1 if failed else 0


def _by_hand(rasa: Path) -> int:
    failed = 0
    for name in ("by_hand", "back_by_hand"):
        script = str(Path(__file__).with_name(f"{name}.py"))
        with EmbeddedRedis() as server:
            words = [str(rasa.with_name("python")), script, str(server.port)]
            done = subprocess.run(
                words, env=environ(), capture_output=True, text=True, check=False, timeout=300
            )
        failed += done.returncode != 0
        print(f"{name}: {done.stderr[-2000:] + '   FAILED' if done.returncode else 'good'}")
    return failed


def _facts(rasa: Path, script: str, recorded: str) -> int:
    """Whether Rasa still does what the unit tests have of it."""
    done = subprocess.run(
        [str(rasa.with_name("python")), str(Path(__file__).with_name(script))],
        env=environ(), capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    path = ROOT / "tests" / "unit" / recorded
    good = done.returncode == 0 and json.loads(done.stdout) == json.loads(path.read_text())
    why = f"differs from {path}" if done.returncode == 0 else done.stderr[-2000:]
    print(f"{script}: {'good' if good else f'{why}   FAILED'}")
    return int(not good)


async def _run(
    kind: Kind, command: tuple[Path, Path], folder: Path, args: argparse.Namespace
) -> int:
    failed = 0

    def report(name: str, found: Any, good: bool = True) -> None:
        nonlocal failed
        failed += not good and kind.ours
        print(f"  {name}: {found}{'' if good or not kind.ours else '   FAILED'}", flush=True)

    async with Fleet(kind.sections, command, folder) as fleet:
        bursts = [await scenarios.burst(fleet, f"burst{run}") for run in range(args.runs)]
        report("bursts", dict(scenarios.summary(bursts)), all(one.clean for one in bursts))
        checks = [("a queue over both replicas", scenarios.queue(fleet, "queue"))]
        if kind.fenced:
            checks += [
                ("sessions", scenarios.sessions(fleet, "sessions")),
                ("a history that is replaced", scenarios.replaced(fleet, "replaced")),
                ("a replica that froze", _frozen(fleet)),
            ]
        if kind.ours:
            checks.append(("a storm of kills", scenarios.storm(fleet, args.kills)))
        checks.append(("a replica that was killed", scenarios.killed(fleet, "killed", kind.wait)))
        if kind.events is not None:
            checks.append(("events at the broker", kind.events(fleet)))
        for name, check in checks:
            try:
                report(name, await check or "good")
            except asyncio.TimeoutError:
                report(name, "it did not go on", False)
            except AssertionError as error:
                report(name, error, False)
        if not kind.ours:
            failed += await _reminders(fleet, folder)
        if failed:
            for number in range(2):
                print(f"  replica {number} said: …{fleet.log(number).read_text()[-2500:]}")
    return failed


async def _reminders(fleet: Fleet, folder: Path) -> int:
    """Rasa's own reminders beside those of our bot server."""
    await fleet.restart(0)  # it was killed
    rows = await reminders.compare(fleet, folder)
    wrong = reminders.wrong(rows)
    print(reminders.table(rows))
    print(f"  reminders: {f'{wrong}   FAILED' if wrong else 'good'}", flush=True)
    return int(bool(wrong))


async def _frozen(fleet: Fleet) -> Any:
    found = await scenarios.frozen(fleet, "frozen")
    texts = [scenarios.text(1), scenarios.text(0)]
    assert found["found"] == texts, found
    return found


sys.exit(main())
