"""The section `callback`: read from a file, checked, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from ticketlock import ConfigurationError, EndpointConfig
from ticketlock.cli.config.check import check
from ticketlock.deliveries.settings import CallbackSettings
from ticketlock.endpoints.file import read_endpoints

SECRET = "whsec_dGhlIG5ldyBzZWNyZXQsIDI0IGJ5dGVz"


def written(folder: Path, text: str) -> Path:
    path = folder / "endpoints.yml"
    path.write_text(text)
    return path


def test_a_file_with_secrets_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", SECRET)
    text = 'callback: {url: "https://h/bot?key=sesame", secrets: ["${KEY}"], max_tries: 3}'
    section = read_endpoints(written(tmp_path, text)).section("callback")
    settings = CallbackSettings.from_section(section)
    assert settings.secrets == (SECRET,)
    assert settings.max_tries == 3
    assert settings.address == "https://h"
    assert "sesame" not in repr(settings)
    assert SECRET not in repr(settings)
    assert CallbackSettings.from_section({"url": "http://h", "secrets": SECRET}).secrets == (
        SECRET,
    )


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({}, "callback: url: is missing"),
        ({"url": ""}, "callback: url: is not an http"),
        ({"url": "ftp://h/sesame"}, "callback: url: is not an http"),
        (
            {"url": "http://h", "secrets": ["sesame"]},
            "callback: secrets: number 1 is not a webhook",
        ),
        ({"url": "http://h", "secrets": [SECRET, "sesame"]}, "callback: secrets: number 2"),
        ({"url": "http://localhost:81/sesame"}, "callback: url: nothing is posted to loopback"),
        ({"url": "http://[::1]/sesame"}, "callback: url: nothing is posted to loopback"),
        ({"url": "http://10.0.0.1/"}, "callback: url: .* allow_private: true permits loopback"),
        (
            {"url": "http://169.254.169.254/", "allow_private": True},
            "callback: url: nothing is posted",
        ),
        ({"url": "http://h", "timeout": 11}, "callback: timeout: 11 is not a number of at most 10"),
        ({"url": "http://h", "type": "smtp"}, "callback: type: 'smtp' is not known"),
        ({"url": "http://h", "max_trys": 1}, "callback: max_trys: .*did you mean max_tries"),
    ],
)
def test_what_is_wrong_is_named(keys: dict[str, object], text: str) -> None:
    for section in (keys, EndpointConfig(**keys)):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match=f"^{text}") as caught:
            CallbackSettings.from_section(section)
        assert "sesame" not in str(caught.value)


def test_addresses_that_can_be_posted_to() -> None:
    """A name is looked up when something is posted, and checked then."""
    CallbackSettings(url="http://127.0.0.1:81/", allow_private=True)
    CallbackSettings(url="http://8.8.8.8/")
    CallbackSettings(url="http://hooks.internal/")


def test_a_credentials_file_says_where_the_channel_belongs(tmp_path: Path) -> None:
    """With other channels it is one; `callback` alone is a section."""
    path = written(tmp_path, "rest:\ncallback: {url: 'http://h'}\n")
    assert "endpoints.yml" in read_endpoints(path, credentials=True).unused["callback"]
    assert read_endpoints(written(tmp_path, "callback: {url: 'http://h'}\n")).section("callback")


async def test_config_check(tmp_path: Path) -> None:
    good = f"callback: {{url: 'http://h:81/sesame', secrets: {SECRET}}}\n"
    (found,) = [
        c for c in (await check(written(tmp_path, good))).components if c.section == "callback"
    ]
    assert (found.problem, found.warning, found.where) == (None, None, "http://h:81")
    unsigned = await check(written(tmp_path, "callback: {url: 'http://h'}\n"))
    assert any("nothing is signed" in (c.warning or "") for c in unsigned.components)
    bad = await check(written(tmp_path, "callback: {secrets: sesame, max_tries: 0}\n"))
    (problem,) = [c.problem for c in bad.components if c.section == "callback"]
    assert problem is not None
    assert "secrets: number 1" in problem
    assert "max_tries" in problem
    assert "sesame" not in problem
