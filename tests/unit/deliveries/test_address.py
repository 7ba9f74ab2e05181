"""URLs and addresses that are posted to."""

from __future__ import annotations

import pytest

from ticketlock import ConfigurationError
from ticketlock.deliveries.address import CheckedURL, allowed


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("2606:4700:4700::1111", True, True),
        ("127.0.0.1", False, True),
        ("10.1.2.3", False, True),
        ("192.168.0.1", False, True),
        ("100.64.0.1", False, True),
        ("::1", False, True),
        ("fd12::1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("fe80::1%lo", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("255.255.255.255", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
    ],
)
def test_addresses(address: str, public: bool, private: bool) -> None:
    assert allowed(address, private=False) is public
    assert allowed(address, private=True) is private


def test_a_url_shows_no_secret() -> None:
    url = CheckedURL.parse("https://anna:pa%20ss@hooks.example:8443/T0/secret?token=abc")
    assert str(url) == "https://hooks.example:8443"
    assert repr(url) == "CheckedURL(scheme='https', host='hooks.example', port=8443)"
    assert url.target == "/T0/secret?token=abc"
    assert url.authorization == "Basic YW5uYTpwYSBzcw=="
    assert str(CheckedURL.parse("http://[::1]/x")) == "http://[::1]"
    assert CheckedURL.parse("http://bücher.example").host == "xn--bcher-kva.example"


@pytest.mark.parametrize(
    "text",
    [
        "", "ftp://host/secret", "https://", "https:///secret", "http://host:99999/secret",
        "http://[::1/secret", "http://host/se cret\r\nx: y", "http://host/secret#x", "secret",
        "http://host/sécret", "http://" + "a" * 300 + "/secret",
    ],
)  # fmt: skip
def test_an_invalid_url_is_not_shown(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        CheckedURL.parse(text)
    assert "secret" not in str(caught.value)
