"""Servers in containers: what can be said without Docker."""

from __future__ import annotations

from importlib import import_module

import in_containers
import pytest


def test_without_docker_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """It begins nothing, and no test counts as passed."""
    assert in_containers.main(["kafka", "--", "contract"], lambda: False) == 2
    assert "Docker does not answer" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--", "contract"], ["oracle"]])
def test_unknown_servers(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert in_containers.main(words, lambda: True) == 2
    assert "mongo" in capsys.readouterr().err


def test_the_tests_read_what_it_sets() -> None:
    modules = {**dict.fromkeys(in_containers.SERVERS, ""), "kafka": "kafka_server"}
    for name, module in modules.items():
        variable = import_module(f"servers.{module or name}").VARIABLE
        if name == "kafka":
            assert variable == "TICKETLOCK_TEST_KAFKA_BOOTSTRAP"
        else:
            assert variable == in_containers.SERVERS[name].variable
