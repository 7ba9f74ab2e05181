"""Addresses and logins of a Redis deployment, as settings take them."""

from __future__ import annotations

import pytest

from ticketlock import ConfigurationError
from ticketlock.redis.settings import RedisSettings
from ticketlock.redis.slots import owners, redirect


@pytest.mark.parametrize(
    ("host", "expected", "shown"),
    [
        ("[::1]:6380", ("::1", 6380), "[::1]:6380"),
        ("[::1]", ("::1", 6379), "[::1]:6379"),
        ("::1", ("::1", 6379), "[::1]:6379"),
        ("[fe80::1%eth0]:6379", ("fe80::1%eth0", 6379), "[fe80::1%eth0]:6379"),
        ("redis://[::1]:6380/1", ("::1", 6380), "[::1]:6380"),
        ("localhost:6380", ("localhost", 6380), "localhost:6380"),
    ],
)
def test_addresses(host: str, expected: tuple[str, int], shown: str) -> None:
    """IPv6 addresses, with brackets where a port follows, and names."""
    settings = RedisSettings.of({"host": host})
    assert (settings.host, settings.port) == expected
    assert settings.address == shown


def test_endpoints_with_ipv6() -> None:
    """Sentinels and cluster nodes have the same forms."""
    nodes = ["[::1]:7000", "127.0.0.1:7001"]
    settings = RedisSettings.of({"deployment_mode": "cluster", "endpoints": nodes})
    assert settings.endpoints == (("::1", 7000), ("127.0.0.1", 7001))
    assert settings.address == "[::1]:7000,127.0.0.1:7001"


@pytest.mark.parametrize(
    "text", ["::1", "::1:7000", "[::1]", "[::1:7000", "host", "host:", ":1", "host:0", "host:70000"]
)
def test_no_endpoints(text: str) -> None:
    """What is no host with a port is an error that names the key."""
    with pytest.raises(ConfigurationError, match="endpoints"):
        RedisSettings.of({"deployment_mode": "cluster", "endpoints": [text]})


def test_a_login_at_sentinels() -> None:
    """A sentinel has users of its own; their secrets do not show."""
    keys = {"deployment_mode": "sentinel", "endpoints": ["s:26379"], "password": "s3rver"}
    settings = RedisSettings.of({**keys, "sentinel_username": "u", "sentinel_password": "s3ntinel"})
    asked = settings.sentinel_kwargs()
    assert (asked["username"], asked["password"]) == ("u", "s3ntinel")
    assert "s3ntinel" not in repr(settings)
    assert RedisSettings.of(keys).sentinel_kwargs()["password"] is None
    with pytest.raises(ConfigurationError, match="sentinel_password: is missing"):
        RedisSettings.of({**keys, "sentinel_username": "u"})


def test_hosts_that_a_cluster_tells() -> None:
    """A node that names no host means its own; one without a hostname has its address behind."""
    node = b"id"
    ranges = [
        [0, 99, [b"10.0.0.1", 7000, node, []], [b"10.0.0.9", 7009, node, []]],
        [100, 199, [None, 7001, node, []]],
        [200, 299, [b"", 7002, node]],
        [300, 399, [b"?", 7003, node, [b"ip", b"10.0.0.4"]]],
        [400, 499, [b"?", 7004, node, {b"ip": b"10.0.0.5"}]],
        [500, 599, [b"::1", 7005, node, []]],
    ]
    found = owners(ranges, "asked")
    assert len(found) == 16384
    assert [found[slot] for slot in (0, 99, 100, 299, 300, 400, 599, 600)] == [
        ("10.0.0.1", 7000), ("10.0.0.1", 7000), ("asked", 7001), ("asked", 7002),
        ("10.0.0.4", 7003), ("10.0.0.5", 7004), ("::1", 7005), None,
    ]  # fmt: skip
    assert redirect("3999 127.0.0.1:6381", "asked") == ("127.0.0.1", 6381)
    assert redirect("3999 :6381", "asked") == ("asked", 6381)
    assert redirect("3999 ?:6381", "asked") == ("asked", 6381)
    assert redirect("3999 ::1:6381", "asked") == ("::1", 6381)
