"""Files and folders of a domain, and the errors that they cause."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ticketlock import ConfigurationError, Domain, read_domain
from ticketlock.domain import SessionConfig

SLOT = "type: text, mappings: [{type: custom}]"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def error(folder: Path, text: str) -> str:
    write(folder, domain=text)
    with pytest.raises(ConfigurationError) as caught:
        read_domain(folder / "domain.yml")
    said = str(caught.value)
    assert said.startswith(f"{folder / 'domain.yml'}: ")
    return said.removeprefix(f"{folder / 'domain.yml'}: ")


def test_an_empty_domain() -> None:
    """It has what every domain has."""
    domain = Domain.from_dict({})
    assert dict(domain.initial_slots) == {"session_started_metadata": None}
    assert domain.session_config == SessionConfig(60, True)
    assert domain.as_dict() == {
        "session_config": {
            "session_expiration_time": 60,
            "carry_over_slots_to_new_session": True,
        },
        "version": "3.1",
    }


def test_a_domain_cannot_be_changed() -> None:
    """Neither by what it gives out, nor by what it was made of."""
    data: dict[str, Any] = {
        "slots": {"tags": {"type": "list", "initial_value": ["a"]}},
        "responses": {"utter_a": [{"text": "a", "buttons": [{"title": "t"}]}]},
    }
    domain = Domain.from_dict(data)
    data["slots"].clear()
    domain.as_dict()["slots"].clear()
    domain.initial_slots["tags"].append("b")
    said = domain.response("utter_a")
    assert said is not None
    said["buttons"].clear()
    assert domain.initial_slots["tags"] == ["a"]
    assert domain.response("utter_a") == {"text": "a", "buttons": [{"title": "t"}]}
    assert json.loads(domain.as_json()) == domain.as_dict()
    with pytest.raises(AttributeError):
        domain.where = "x"  # type: ignore[misc]
    with pytest.raises(TypeError):
        domain.responses["utter_a"][0]["text"] = "b"  # type: ignore[index]


def test_a_folder_is_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The first file that declares a name counts, and a warning names the other one."""
    write(
        tmp_path,
        a=f"slots: {{city: {{{SLOT}, initial_value: Rome}}}}\nactions: [action_a]",
        b__deeper__c=f"slots: {{city: {{{SLOT}, initial_value: Oslo}}, n: {{{SLOT}}}}}\n"
        "actions: [action_b, action_a]\nsession_config: {session_expiration_time: 5}",
        nlu="nlu: [{intent: greet}]",
        z="- a list",
    )
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    with caplog.at_level(logging.WARNING, "ticketlock"):
        domain = read_domain(tmp_path)
    assert domain.initial_slots["city"] == "Rome"
    assert {*domain.slots} == {"city", "n", "session_started_metadata"}
    assert domain.as_dict()["actions"] == ["action_a", "action_b"]
    assert domain.session_config == SessionConfig(5, True)
    first, second = (record.getMessage() for record in caplog.records)
    there = tmp_path / "b" / "deeper" / "c.yml"
    assert first == (
        f"{there}: actions: action_a is in {tmp_path / 'a.yml'} too, which counts; "
        "remove one of them"
    )
    assert f"{there}: slots: city is in {tmp_path / 'a.yml'}" in second


def test_a_wrong_file_of_a_folder_is_named(tmp_path: Path) -> None:
    write(tmp_path, a="slots: {}", b="responses: {utter_a: Hi}")
    with pytest.raises(ConfigurationError, match=r"b\.yml: responses: utter_a: is not a list"):
        read_domain(tmp_path)


def test_a_folder_without_a_domain(tmp_path: Path) -> None:
    write(tmp_path, endpoints="lock_store: {type: redis}")
    with pytest.raises(ConfigurationError, match=r"has no domain: no \.yml file in it has one of"):
        read_domain(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "is not a mapping of sections such as slots, responses"),
        ("a: 1\nb: [", "line 2: "),
        ("slots: {a: {type: text}}\nslots: {}", 'line 2: found duplicate key "slots"'),
        ("slots: [a]", "slots: is not a mapping"),
        ("intents: {a: 1}", "intents: is not a list"),
        ("intents: [1]", "intents: 1 is not a name"),
        ("forms: {f: 1}", "forms: f: is not a mapping"),
        ("slots: {a: text}", "slots: a: is not a mapping with a type"),
        ("slots: {a: {type: txt}}", "slots: a: type: 'txt' is not known; use one of text, bool"),
        (
            "slots: {a: {type: float, min_value: 2}}",
            "slots: a: min_value 2 is not below max_value 1.0",
        ),
        ("slots: {a: {type: float, max_value: x}}", "slots: a: max_value: 'x' is not a number"),
        ("responses: {utter_a: []}", "responses: utter_a: is not a list of variations"),
        ("responses: {utter_a: [Hi]}", "responses: utter_a: is not a mapping: write - text: Hi"),
        (
            "responses: {utter_a: [{text: a}, {image: b}]}",
            "responses: utter_a: variation 2: has neither text nor custom",
        ),
        ("responses: {utter_a: [{text: 1}]}", "text: 1 is not text: put it in quotes"),
        (
            "responses: {utter_a: [{text: a, condition: [{type: slot, name: b}]}]}",
            "responses: utter_a: condition: needs type: slot, name and value",
        ),
        (
            "responses: {utter_a: [{text: a, condition: [{type: x, name: b, value: 1}]}]}",
            "condition: type: 'x' is not known; the only type is slot",
        ),
        (
            "session_config: {session_expiration_time: -1}",
            "session_config: session_expiration_time: -1 is not a number of minutes",
        ),
        (
            "session_config: {carry_over_slots_to_new_session: 1}",
            "carry_over_slots_to_new_session: 1 is not true or false",
        ),
        ("responses: {utter_a: [{text: $" + "{NOT_THERE}}]}", "line 1: "),
        ("a: " + "[" * 200 + "]" * 200, "nested too deeply"),
    ],
)  # fmt: skip
def test_errors_say_file_key_and_what_to_do(text: str, said: str, tmp_path: Path) -> None:
    assert said in error(tmp_path, text)


def test_a_small_file_of_many_values(tmp_path: Path) -> None:
    """Aliases repeat values: they are counted, and the file is refused in time."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert "more than 1000000 values" in error(tmp_path, "\n".join(lines))


def test_a_large_file(tmp_path: Path) -> None:
    assert error(tmp_path, "#" * (4 * 1024 * 1024 + 1)) == "is larger than 4194304 bytes: split it"


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.yml: cannot be read: No such file"):
        read_domain(tmp_path / "no.yml")


def test_variables_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of quotes, as documented; in quotes `${price}` is a dollar and a slot."""
    monkeypatch.setenv("CDN", "http://cdn")
    write(
        tmp_path,
        domain='responses: {utter_a: [{text: "costs ${price}", image: "${CDN}"}]}\n'
        "slots:\n  url: {type: text, initial_value: " + "'a'}\n  "
        "cdn:\n    type: text\n    initial_value: ${CDN}/a.png",
    )
    domain = read_domain(tmp_path / "domain.yml")
    assert domain.initial_slots["cdn"] == "http://cdn/a.png"
    said = domain.response("utter_a", variables={"price": 5, "CDN": "x"})
    assert said == {"text": "costs $5", "image": "$x"}


def test_what_is_not_used_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, domain=f"intents: [greet]\nslots: {{a: {{{SLOT}}}}}\nforms: {{}}\nx: 1")
    with caplog.at_level(logging.INFO, "ticketlock"):
        domain = read_domain(tmp_path / "domain.yml")
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'domain.yml'}: not used by ticketlock: intents, slots.mappings, x"
    ]
    assert domain.unused["x"] == "is not a known section"


def test_without_the_extra(tmp_path: Path) -> None:
    """Core has a domain without YAML; reading a file says what to install."""
    write(tmp_path, domain="slots: {}")
    program = (
        "import sys; sys.modules['ruamel.yaml'] = None\n"
        "import ticketlock\n"
        "ticketlock.Domain.from_dict({})\n"
        "try: ticketlock.read_domain('domain.yml')\n"
        "except ticketlock.ConfigurationError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == 'domain.yml: reading YAML needs: pip install "ticketlock[yaml]"\n'
