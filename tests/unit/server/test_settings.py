"""The `server` section, and what is no bot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError, cli
from ticketlock.server import Settings, echo
from ticketlock.server.bot import check_bot, load_bot

GOOD = {
    "double_texting": "reject", "message_window": "60", "max_waiting": 5, "request_timeout": 1.5,
    "lock_lifetime": 9, "max_body": 2048, "body_timeout": 3, "drain_timeout": 0,
    "auth_token": "first-token", "jwt_secret": "a-key-of-mine", "jwt_method": "hs512",
    "channel_token": "third-token", "admin_token": "fourth-token", "open_channels": "false",
    "max_duplicates": 2, "max_turns": "30", "max_connections": 40, "head_timeout": 2,
    "max_text": 1000, "max_values": 100, "max_depth": 9, "body_budget": 2048,
    "signed_body_budget": 4096, "allowed_hosts": "a.example, b.example",
    "cors_origins": ["https://a.example", "http://localhost:3000"], "jwt_leeway": "3",
    "jwt_require_exp": "true", "max_attempts": "3", "max_events": 5, "max_event": 2048,
}  # fmt: skip


def test_every_key() -> None:
    """All are read, texts of `${NAME}` too."""
    made = Settings.from_section(GOOD)
    assert made == Settings(
        "reject", 60, 5, 1.5, 9, 2048, 3, 0, "first-token", "a-key-of-mine", "HS512",
        "third-token", "fourth-token", False, 2, 30, 40, 2, 1000, 100, 9, 2048, 4096,
        ("a.example", "b.example"), ("https://a.example", "http://localhost:3000"), 3, True, max_attempts=3,
        max_events=5, max_event=2048,
    )  # fmt: skip
    assert Settings.from_section(None) == Settings.from_section({}) == Settings()


def test_secrets_do_not_show() -> None:
    """Neither in the repr nor in an error."""
    assert "-token" not in repr(Settings.from_section(GOOD))
    assert "of-mine" not in repr(Settings.from_section(GOOD))
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_section({"auth_token": ["hidden"]})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"double_texting": "drop"}, "one of enqueue, reject"),
        ({"jwt_method": "none"}, "one of HS256"),
        ({"auth_token": ""}, "auth_token: is empty"),
        ({"admin_token": ""}, "admin_token: is empty"),
        ({"admin_token": "change-me"}, "admin_token: is a placeholder"),
        ({"auth_token": "<your token>"}, "auth_token: is a placeholder"),
        ({"jwt_secret": "thisismysecret"}, "jwt_secret: is a placeholder"),
        ({"channel_token": "x"}, "channel_token: is (a placeholder|shorter than 8)"),
        ({"auth_token": "aaaaaaaaaaaa"}, "auth_token: is shorter than 8 characters, or repeats"),
        ({"jwt_secret": "7kQ$"}, "openssl rand -hex 32"),
        ({"allowed_hosts": "a.example:80"}, "allowed_hosts: 'a.example:80' is not a host"),
        (
            {"cors_origins": "https://a.example/"},
            "cors_origins: 'https://a.example/' is not an orig",
        ),
        ({"cors_origins": ["a.example"]}, "cors_origins: 'a.example' is not an origin"),
        ({"max_waiting": 0}, "at least 1"),
        ({"maxbody": 1}, "did you mean max_body"),
        ({"type": "ftp"}, "the only type"),
        ({"open_channels": True, "channel_token": "what-it-is"}, "contradicts channel_token"),
    ],
)
def test_wrong_values(section: dict[str, Any], says: str) -> None:
    """Each is an error that names the key; nothing falls back, nothing stands open by accident."""
    with pytest.raises(ConfigurationError, match=says):
        Settings.from_section(section)


@pytest.mark.parametrize(
    "made", [{"auth_token": ""}, {"admin_token": "change-me"}, {"double_texting": "drop"}]
)
def test_wrong_values_in_python(made: dict[str, Any]) -> None:
    """The same for those who make the settings themselves."""
    with pytest.raises(ConfigurationError):
        Settings(**made)


def test_load_a_bot(tmp_path: Path) -> None:
    """A function of a module of this folder; an object that is called counts too."""
    (tmp_path / "some_bot_a.py").write_text(
        "async def bot(turn, message):\n    yield 'x'\n"
        "class Class:\n    async def __call__(self, turn, message):\n        yield 'x'\n"
        "made = Class()\n"
    )
    for name in ("bot", "made"):
        assert callable(load_bot(f"some_bot_a:{name}", tmp_path))
    assert load_bot("ticketlock.server:echo") is echo


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("justaname", "module:function, such as my_bot:bot"),
        ("no_such_module_x:bot", "'no_such_module_x': run this in the folder that has it$"),
        ("no_such_package_x.bots:bot", "'no_such_package_x': run this in the folder that has it$"),
        ("some_bot_b.py:plain", r"leave out .py \(some_bot_b:...\)$"),
        ("some_bot_b:nothing", "has no nothing; it has: plain, returns, Class, few, many"),
        ("some_bot_b:plan", "has no plan; did you mean plain?"),
        ("some_bot_b:plain", "is not asynchronous; a bot is `async def bot.turn, message.`"),
        ("some_bot_b:returns", "write `yield reply` in place of `return reply`; a bot is"),
        ("some_bot_b:Class", "is a class, give an object of it; a bot is `async def bot.turn"),
        ("some_bot_b:few", r"takes \(message\); a bot is `async def bot\(turn, message\)` that"),
        ("some_bot_b:many", r"takes \(turn, message, store\); a bot is `async def"),
        ("some_bot_b:keywords", r"takes \(\*, turn, message\); a bot is"),
        ("some_bot_b:swapped", r"takes \(message, turn\), in the wrong order; a bot is"),
        ("some_bot_b:number", "is int, not a function; a bot is"),
        ("some_bot_c:bot", r"cannot be run: ZeroDivisionError: .*some_bot_c\.py, line 1\)$"),
        ("some_bot_d:bot", "No module named 'absent_driver' .*some_bot_d.py, line 1.$"),
        ("some_bot_e:bot", "partially initialized module .*some_bot_e.py, line 1.$"),
        ("some_bot_f:bot", "some_bot_f cannot be run: SystemExit: no token"),
        ("bots/some_bot_b.py:bot", "is a path: run this in its folder with --bot some_bot_b:bot$"),
    ],
)
def test_what_is_no_bot(path: str, says: str, tmp_path: Path) -> None:
    """The error says what is wrong with which part."""
    (tmp_path / "some_bot_b.py").write_text(
        "def plain(turn, message): return 'x'\n"
        "async def returns(turn, message): return 'x'\n"
        "class Class:\n    pass\n"
        "async def few(message): yield 'x'\n"
        "async def many(turn, message, store): yield 'x'\n"
        "async def keywords(*, turn, message): yield 'x'\n"
        "async def swapped(message, turn): yield 'x'\n"
        "number = 3\n"
    )
    (tmp_path / "some_bot_c.py").write_text("1 / 0\n")
    (tmp_path / "some_bot_d.py").write_text("import absent_driver\n")
    (tmp_path / "some_bot_e.py").write_text("from some_bot_e import bot\n")
    (tmp_path / "some_bot_f.py").write_text("import sys; sys.exit('no token')\n")
    with pytest.raises(ConfigurationError, match=says):
        load_bot(path, tmp_path)


def test_a_class_is_no_bot() -> None:
    """Its instances may be."""

    class Bot:
        async def __call__(self, turn: Any, message: Any) -> Any:
            yield "x"

    assert check_bot(Bot())
    with pytest.raises(ConfigurationError):
        check_bot(Bot)


def test_the_file_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No endpoints file is an error, not a server in memory (a defect of the reference)."""
    missing = tmp_path / "none.yml"
    assert cli.main(["run", "--endpoints", str(missing), "--port", "0"]) == cli.EXIT_BAD_INPUT
    assert str(missing) in capsys.readouterr().err


def test_a_port_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error that names it, before anything has begun."""
    from ticketlock.server.run import listen

    file = tmp_path / "endpoints.yml"
    file.write_text("")
    with listen("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        status = cli.main(["run", "--endpoints", str(file), "--port", port])
    assert status == cli.EXIT_BAD_INPUT
    assert f"127.0.0.1 port {port}" in capsys.readouterr().err
