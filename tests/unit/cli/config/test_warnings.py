"""What `ticketlock config check` warns of."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from ticketlock import cli
from ticketlock.redis.embedded import EmbeddedRedis


def test_config_check_warns_of_a_redis_that_keeps_nothing(
    tmp_path: Path, own_redis: EmbeddedRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """The inbox is lost with it; the warning names the setting."""
    path = tmp_path / "endpoints.yml"
    path.write_text(f"lock_store: {{type: concurrent_redis, url: '{own_redis.url}'}}\n")
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if line.startswith("ok   lock_store: "))
    assert "keeps nothing through a restart" in lines[place + 1]
    assert "appendonly yes" in lines[place + 1]
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("appendonly", "yes")
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    assert "appendonly" not in capsys.readouterr().out
