"""Two deployments on one Redis with one key_prefix are told of each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import until
from servers.bot_server import BOT, replicas, write_files

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.server.operator import neighbours

WARNING = "uses the same Redis and key_prefix"


def deployment(folder: Path, redis_url: str, module: str = "slow_bot") -> Path:
    """Files with a database of their own, and a key_prefix that is not."""
    folder.mkdir()
    path = write_files(folder, redis_url)
    text = path.read_text().replace(f"key_prefix: {folder.name}", "key_prefix: shared")
    path.write_text(text)
    (folder / f"{module}.py").write_text(BOT)
    return path


async def test_two_deployments_share_a_prefix(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """The second one says so at its start; the replicas of one say nothing of each other."""
    one, two = tmp_path / "one", tmp_path / "two"
    deployment(one, own_redis.url)
    deployment(two, own_redis.url, "other_bot")
    with replicas(one, [], []) as (first, again):
        with replicas(two, ["--bot", "other_bot:bot"]) as [second]:
            await until(lambda: WARNING in second.log(), "nothing is said")
            lines = [line for line in second.log().splitlines() if WARNING in line]
            assert len(lines) == 1, lines
            assert "another bot ('slow_bot:bot', not 'other_bot:bot')" in lines[0]
            assert "another tracker_store" in lines[0]
            assert "own key_prefix" in lines[0]
            assert "WARNING" in lines[0]
        for replica in (first, again):
            # Those that were there look once a minute.
            assert "slow_bot:bot'" not in replica.log()
            assert replica.log().count("set appendonly yes") == 1


async def test_replicas_without_turns_have_no_bot(own_redis: EmbeddedRedis, tmp_path: Path) -> None:
    """They need none, and are not taken for another deployment."""
    one = tmp_path / "one"
    deployment(one, own_redis.url)
    (one / "other_bot.py").write_text(BOT)
    accepting = ["--accept-only", "--bot", "ticketlock.server.bot:echo"]
    with replicas(one, [], accepting) as (_, accepts):
        with replicas(one, ["--bot", "other_bot:bot"]) as [second]:
            await until(lambda: WARNING in second.log(), "nothing is said")
            assert second.log().count(WARNING) == 1  # of the first, in one look at both
        assert WARNING not in accepts.log()


def summary(name: str, bot: str = "b", tracker: str = "t", gone: bool = False) -> dict[str, object]:
    return {"name": name, "bot": bot, "tracker": tracker, "gone": gone}


def test_of_which_neighbours_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Living ones that differ, each deployment once."""
    look = neighbours.Neighbours().look
    own = summary("own")
    look(own, [(0, summary("same")), (0, summary("old", "", "")), (0, summary("x", "", "t"))])
    look(own, [(60, summary("silent", "other")), (0, summary("ended", "other", gone=True))])
    assert caplog.messages == []
    for _ in range(2):
        look(own, [(1, summary("n1", "other")), (1, summary("n2", "other"))])
        look(own, [(1, summary("n3", "b", "another"))])
    assert [message.split()[1] for message in caplog.messages] == ["n1", "n3"]
    assert "key_prefix" in caplog.text
