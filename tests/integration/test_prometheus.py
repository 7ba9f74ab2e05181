"""A real Prometheus scrapes a real replica, and judges the rules of docs/deploy."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from ruamel.yaml import YAML
from servers.bot_server import Replica, replicas, write_files
from servers.prometheus import DEPLOY, Prometheus, program, prometheus

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.telemetry.metrics import METRICS

TOKEN = "the token of operators"


def until(condition: Callable[[], object], what: str, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


def expressions() -> list[str]:
    """Of the dashboard, with its variables filled in."""
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$job", "ticketlock")
        for panel in panels
        for target in panel["targets"]
    ]


def rules() -> list[dict[str, Any]]:
    (group,) = YAML(typ="safe").load((DEPLOY / "alerts.yml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def series() -> set[str]:
    """The names that a scrape gives."""
    names = set()
    for metric in METRICS:
        tails = ("_bucket", "_sum", "_count") if metric.kind == "histogram" else ("",)
        names |= {metric.prometheus + tail for tail in tails}
    return names


def test_every_name_in_the_dashboard_and_the_rules_is_one_of_ours() -> None:
    """A metric that is renamed takes its panels and alerts along."""
    for text in (*expressions(), *(rule["expr"] for rule in rules())):
        used = set(re.findall(r"\bticketlock_\w+", text))
        assert used <= series(), text
    shown = set(re.findall(r"\bticketlock_\w+", " ".join(expressions())))
    assert {m.prometheus for m in METRICS} == {re.sub("_bucket$", "", name) for name in shown}


def test_a_replica_is_scraped(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    """With the token; what was done there is found by every expression of the dashboard."""
    write_files(tmp_path, redis_server.url, auth_token=TOKEN, lock_lifetime=1)
    with (
        replicas(tmp_path, ["--log-format", "json"]) as (replica,),
        prometheus([replica.port], TOKEN) as server,
    ):
        until(lambda: server.value("ticketlock_turns_held + 1"), "a scrape")
        for number in range(3):
            assert send(replica, f"m{number}").status_code == 200
        assert send(replica, "m0").status_code == 200
        assert send(replica, "slow", metadata={"seconds": 20}).status_code == 504
        wanted = {
            'ticketlock_turns_total{outcome="ok"}': 3,
            'ticketlock_turns_total{outcome="lost"}': 1,
            'ticketlock_turns_lost_total{cause="too_slow"}': 1,
            'ticketlock_messages_total{reason="ok"}': 3,
            'ticketlock_messages_total{reason="duplicate"}': 1,
            'ticketlock_messages_total{reason="TurnTooSlow"}': 1,
            "ticketlock_duplicates_total": 1,
            "ticketlock_turn_wait_seconds_count": 4,
            "ticketlock_queue_depth": 0,
            "ticketlock_turns_held": 0,
        }
        until(
            lambda: [server.value(name) for name in wanted] == list(wanted.values()),
            f"{[(name, server.value(name)) for name in wanted]}",
        )
        assert all(server.query(text) is not None for text in expressions())
        until(lambda: fires(server, "TicketlockTurnsLost"), "an alert")
        assert not fires(server, "TicketlockReplicaDown")


def send(replica: Replica, text: str, **body: Any) -> httpx.Response:
    sent = {"sender": "c", "message": text, "message_id": text, **body}
    return httpx.post(
        f"{replica.url}/webhooks/rest/webhook", json=sent, timeout=30,
        headers={"authorization": f"Bearer {TOKEN}"},
    )  # fmt: skip


def fires(server: Prometheus, name: str) -> bool:
    return bool(server.query(f'ALERTS{{alertname="{name}", alertstate="firing"}}'))


def test_without_the_token_nothing_is_shown(redis_server: EmbeddedRedis, tmp_path: Path) -> None:
    write_files(tmp_path, redis_server.url, auth_token=TOKEN)
    with replicas(tmp_path, []) as (replica,):
        answer = httpx.get(f"{replica.url}/metrics")
        assert answer.status_code == 401
        assert "ticketlock_" not in answer.text


#: Alert -> series that make it fire within ten minutes, and such as do not. In promtool's words:
#: `0+2x20` is 20 steps of 2, one each half minute.
CASES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "TicketlockReplicaDown": (
        {'up{job="ticketlock", instance="a"}': "0x40"},
        {'up{job="ticketlock", instance="a"}': "1x40", 'up{job="other"}': "0x40"},
    ),
    "TicketlockWaitsAreLong": (
        {
            'ticketlock_turn_wait_seconds_bucket{le="10"}': "0x40",
            'ticketlock_turn_wait_seconds_bucket{le="30"}': "0+5x40",
            'ticketlock_turn_wait_seconds_bucket{le="+Inf"}': "0+5x40",
        },
        {
            'ticketlock_turn_wait_seconds_bucket{le="10"}': "0+5x40",
            'ticketlock_turn_wait_seconds_bucket{le="+Inf"}': "0+5x40",
        },
    ),
    "TicketlockQueueDoesNotMove": (
        {"ticketlock_queue_depth": "3x40", 'ticketlock_turns_total{outcome="ok"}': "9x40"},
        {"ticketlock_queue_depth": "3x40", 'ticketlock_turns_total{outcome="ok"}': "0+1x40"},
    ),
    "TicketlockTurnsLost": (
        {'ticketlock_turns_lost_total{cause="lease"}': "0x10 1x30"},
        {'ticketlock_turns_lost_total{cause="closed"}': "0x10 1x30"},
    ),
    "TicketlockRenewalsLate": (
        {'ticketlock_renewals_late_total{instance="a"}': "0+3x40"},
        {'ticketlock_renewals_late_total{instance="a"}': "0x10 2x30"},
    ),
    "TicketlockNotDurable": (
        {'ticketlock_durability_degraded{server="r:6379", instance="a"}': "0x4 1x36"},
        {'ticketlock_durability_degraded{server="r:6379", instance="a"}': "0 1 0 0 1 0 0 1 0x30"},
    ),
    "TicketlockMessagesFail": (
        {
            'ticketlock_messages_total{reason="ok"}': "0+9x40",
            'ticketlock_messages_total{reason="TurnTooSlow"}': "0+1x40",
        },
        {
            'ticketlock_messages_total{reason="ok"}': "0+9x40",
            'ticketlock_messages_total{reason="Busy"}': "0+9x40",
        },
    ),
    "TicketlockOutboxOld": (
        {"ticketlock_outbox_age_seconds": "0+30x40"},
        {"ticketlock_outbox_age_seconds": "0 30 0 30 0 30 0 30 0 30 0 30 0 30 0 30 0 30"},
    ),
    "TicketlockDeadLetters": (
        {"ticketlock_events_dead_total": "0x10 1x30"},
        {"ticketlock_events_dead_total": "5x40"},
    ),
}


def test_each_rule_has_a_case() -> None:
    assert [rule["alert"] for rule in rules()] == list(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_rule_fires_when_it_should_and_only_then(name: str, tmp_path: Path) -> None:
    """As promtool judges, which also checks that the rules are well-formed."""
    fired: list[bool] = []
    for values in CASES[name]:
        path = tmp_path / "test.json"  # which YAML can read
        given = [{"series": key, "values": value} for key, value in values.items()]
        path.write_text(
            json.dumps(
                {
                    "rule_files": [str(DEPLOY / "alerts.yml")],
                    "tests": [
                        {
                            "interval": "30s",
                            "input_series": given,
                            "alert_rule_test": [
                                {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": []}
                                for minute in range(1, 15)
                            ],
                        }
                    ],
                }
            )
        )
        done = subprocess.run(
            [program("promtool"), "test", "rules", str(path)],
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        said = done.stdout + done.stderr
        assert done.returncode == 0 or f"alertname: {name}" in said, said
        fired.append(done.returncode != 0)
    assert fired == [True, False]


def test_the_configuration_is_accepted() -> None:
    """The rules, and the file that names them."""
    for words in (["check", "rules", "alerts.yml"], ["check", "config", "--syntax-only"]):
        file = [] if words[-1].endswith(".yml") else ["prometheus.yml"]
        subprocess.run([program("promtool"), *words, *file], cwd=DEPLOY, check=True, timeout=60)
