"""The section `channels`: what is refused, and where its errors say it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from vendors import KEYS, NAMES, SECRET

from ticketlock import ConfigurationError, cli
from ticketlock.cli.config.schema import CHANNELS, belongs, schema
from ticketlock.endpoints.file import read_endpoints
from ticketlock.server import create_channels
from ticketlock.server.channels import CHANNELS as MADE


def write(folder: Path, channels: Any) -> Path:
    path = folder / "endpoints.yml"
    with path.open("w") as file:
        YAML().dump({"channels": channels}, file)
    return path


def test_channels_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that it has, checked without calling a vendor."""
    path = write(tmp_path, KEYS)
    made = create_channels(read_endpoints(path).section("channels"))
    assert [one.path for one in made] == [f"/webhooks/{name}/webhook" for name in NAMES]
    assert create_channels(None) == []
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_OK
    out = capsys.readouterr().out
    assert "ok   channels: slack, /webhooks/slack/webhook" in out
    assert SECRET not in out


@pytest.mark.parametrize(
    ("name", "keys", "says"),
    [
        ("slack", {"signing_secret": None}, "channels: slack: signing_secret: is missing"),
        ("slack", {"signing_secret": ""}, "channels: slack: signing_secret: is missing"),
        ("slack", {"bot_tokn": "x"}, "channels: slack: bot_tokn: is not a setting here; did you mean bot_token"),
        ("slack", {"use_threads": "perhaps"}, "slack: use_threads: 'perhaps' is not true or false"),
        ("slack", {"api_url": "ftp://x"}, "slack: api_url: is not a URL"),
        ("telegram", {"access_token": "abc"}, "telegram: access_token: is not a bot's token"),
        ("telegram", {"secret_token": "a b"}, "telegram: secret_token: has other characters"),
        ("twilio", {"webhook_url": None}, "twilio: webhook_url: is missing"),
        ("twilio", {"webhook_url": "https://u:p@h/x"}, "twilio: webhook_url: is not a URL"),
        ("whatsapp", {"verify_token": ["x"]}, "whatsapp: verify_token: the value is not text"),
        ("messenger", {"page_id": None}, "messenger: page_id: is missing"),
    ],
)  # fmt: skip
def test_wrong_keys(
    name: str, keys: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names channel and key, and never the value of a secret."""
    path = write(tmp_path, {name: {**KEYS[name], **keys}})
    endpoints = read_endpoints(path)
    with pytest.raises(ConfigurationError) as caught:
        create_channels(endpoints.section("channels"), endpoints.where("channels"))
    assert says in str(caught.value)
    assert cli.main(["config", "check", str(path)]) == cli.EXIT_FAILED
    out = capsys.readouterr().out
    assert says in out
    assert SECRET not in out
    assert cli.main(["run", "--endpoints", str(path)]) == cli.EXIT_BAD_INPUT


def test_what_is_no_channel() -> None:
    """Another name, and keys that are no mapping."""
    with pytest.raises(ConfigurationError, match="slak: is not a channel; did you mean slack"):
        create_channels({"slak": {}})
    with pytest.raises(ConfigurationError, match="slack: is not a mapping"):
        create_channels({"slack": "xoxb-1"})


def test_the_schema_has_every_channel() -> None:
    """Those that can be made, and what each cannot be without."""
    assert set(CHANNELS) == set(MADE) == set(NAMES)
    jsonschema = pytest.importorskip("jsonschema")  # moto brings it
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid({"channels": KEYS})
    assert validator.is_valid({"channels": None})
    for name in NAMES:
        for key, one in CHANNELS[name].items():
            left = {other: value for other, value in KEYS[name].items() if other != key}
            required = one.key.shown == "required"
            assert validator.is_valid({"channels": {name: left}}) is not required, key
        assert not validator.is_valid({"channels": {name: {**KEYS[name], "x": 1}}})
    assert not validator.is_valid({"channels": {"slak": {}}})


def test_a_credentials_file_of_rasa(tmp_path: Path) -> None:
    """It says where the channels' keys are to be put."""
    path = tmp_path / "credentials.yml"
    path.write_text("rest:\nslack:\n  slack_token: x\nhangouts:\n")
    unused = read_endpoints(path, credentials=True).unused
    assert "section channels" in unused["slack"]
    assert "your own program" in unused["hangouts"]


def test_a_key_outside_of_its_section() -> None:
    """It is said where it belongs."""
    assert belongs("signing_secret") == "it belongs in the section channels"
