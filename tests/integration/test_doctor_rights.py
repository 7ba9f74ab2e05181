"""`ticketlock doctor` and the rights of a user of one Redis, command by command."""

from __future__ import annotations

import pytest
import redis
from servers.examined import Examine, configured, examine, section, server

from ticketlock.redis.embedded import EmbeddedRedis
from ticketlock.redis.rights import grant_line
from ticketlock.redis.settings import RedisSettings

__all__ = ["examine", "server"]  # fixtures


@pytest.mark.parametrize("without", ["+hget", "+zadd", "+eval", "+subscribe", "+script|load", None])
def test_the_rights_of_locks(server: EmbeddedRedis, examine: Examine, without: str | None) -> None:
    """Each missing right is named, the printed line is enough, and what else the doctor asks for is
    a note."""
    keys = section(server, username="bot", password="s3cret-pw")
    line = grant_line(RedisSettings.of({k: v for k, v in keys.items() if k != "type"}))
    words = [word for word in line.split() if word != without]
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "DELUSER", "bot")
        client.execute_command(*words[:3], "on", ">s3cret-pw", "resetchannels", *words[3:])
        found = examine(lock_store=keys)
        assert "INFO, CONFIG GET:" in found["not-looked-at"][0]["what"]
        assert "SCAN" in found["not-looked-at"][1]["what"]
        if without is None:
            assert [*found] == ["not-looked-at"]
            return
        assert set(found) == {"redis-rights", "not-looked-at"}
        (finding,) = found["redis-rights"]
        assert without[1:] in finding["what"]
        assert typed(finding) == line
        client.execute_command(*typed(finding).split())
        assert [*examine(lock_store=keys)] == ["not-looked-at"]
        client.execute_command("ACL", "SETUSER", "bot", "+scan")
        (note,) = examine(lock_store=keys)["not-looked-at"]
        client.execute_command(*typed(note).split())
        assert examine(lock_store=keys) == {}
        back = note["do"].partition("take it back with ")[2].partition(";")[0]
        client.execute_command(*back.split())
        assert examine(lock_store=keys) == {"not-looked-at": [note]}


@pytest.mark.parametrize("section_of", ["lock_store", "tracker_store"])
def test_a_user_who_may_not_select(
    server: EmbeddedRedis, examine: Examine, section_of: str
) -> None:
    """All other faults are found at once: in database 0, but for keys, which are in another one."""
    keys = {"host": "127.0.0.1", "port": server.port, "username": "bot", "password": "s3cret-pw"}
    keys |= {"type": "concurrent_redis" if section_of == "lock_store" else "redis", "db": 3}
    with configured(server, maxmemory_policy="allkeys-lru") as client:
        client.execute_command("ACL", "DELUSER", "bot")
        allowed = ("~*", "&*", "+@all", "-select", "-hget")
        client.execute_command("ACL", "SETUSER", "bot", "on", ">s3cret-pw", *allowed)
        client.set("concurrent_lock:{anna}:queue", 1)  # a leak, were it in database 3
        found = examine(**{"lock_store": section(server), section_of: keys})
        client.delete("concurrent_lock:{anna}:queue")
        assert set(found) == {"redis-eviction", "redis-rights"}
        assert "select, hget" in found["redis-rights"][0]["what"]
        words = typed(found["redis-rights"][0]).split()
        client.execute_command(*(word for word in words if word[0] not in "~&"))
        assert set(examine(**{"lock_store": section(server), section_of: keys})) == {
            "redis-eviction"
        }


@pytest.mark.parametrize("without", ["+hset", "+zscan", "+evalsha"])
def test_the_rights_of_histories(server: EmbeddedRedis, examine: Examine, without: str) -> None:
    tracker = {"type": "redis", "host": "127.0.0.1", "port": server.port, "db": 2}
    tracker |= {"username": "tracker", "password": "s3cret-pw", "key_prefix": "mine"}
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "DELUSER", "tracker")
        client.execute_command("ACL", "SETUSER", "tracker", "on", ">s3cret-pw", "+hello", "+select")
        (finding,) = examine(lock_store=section(server), tracker_store=tracker)["redis-rights"]
        assert "script|load, evalsha, scan, zscan" in finding["what"]
        words = typed(finding).split()
        client.execute_command(*(word for word in words if word != without))
        found = examine(lock_store=section(server), tracker_store=tracker)
        assert without[1:] in found["redis-rights"][0]["what"]
        client.execute_command(*words)
        assert examine(lock_store=section(server), tracker_store=tracker) == {}


def typed(finding: dict[str, str]) -> str:
    """The command of a finding, without what is said about it."""
    return finding["do"].splitlines()[0]


def test_a_user_with_all_keys_and_channels(server: EmbeddedRedis, examine: Examine) -> None:
    """The server refuses a pattern that adds nothing; without it the line is enough."""
    keys = section(server, username="bot", password="s3cret-pw")
    with redis.Redis(port=server.port) as client:
        client.execute_command("ACL", "DELUSER", "bot")
        rights = ("~*", "&*", "+hello", "+time", "+select", "+eval", "+get")
        client.execute_command("ACL", "SETUSER", "bot", "on", ">s3cret-pw", *rights)
        (finding,) = examine(lock_store=keys)["redis-rights"]
        words = typed(finding).split()
        with pytest.raises(redis.ResponseError, match="after the \\* pattern"):
            client.execute_command(*words)
        assert "~* or &*" in finding["do"]
        client.execute_command(*(word for word in words if word[0] not in "~&"))
        assert [*examine(lock_store=keys)] == ["not-looked-at"]
