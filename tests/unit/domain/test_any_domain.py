"""Whatever a file declares, it is a domain or an error, and can be used."""

from __future__ import annotations

import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ticketlock.stores.memory import InMemoryTrackerStore

from ticketlock import ConfigurationError, Domain, read_domain

WORDS = st.sampled_from(
    ["a", "b", "text", "type", "float", "list", "min_value", "max_value", "initial_value",
     "mappings", "condition", "channel", "slot", "name", "value", "custom", "required_slots",
     "use_entities", "roles", "{a}", "session_expiration_time"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 70) | st.floats() | WORDS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
SLOT = st.fixed_dictionaries(
    {"type": st.sampled_from(["text", "float", "list", "any", "categorical", "my.Slot"])},
    optional={"initial_value": VALUES, "mappings": VALUES, "max_value": st.integers(1, 3)},
)
VARIATION = st.fixed_dictionaries(
    {"text": st.text("ab{}", max_size=6)},
    optional={"buttons": VALUES, "channel": st.sampled_from(["x", "y"]), "custom": VALUES},
)
NAMES = st.lists(WORDS | st.dictionaries(WORDS, VALUES, min_size=1, max_size=1), max_size=3)
FORM = st.none() | st.dictionaries(WORDS, VALUES, max_size=2)
CONFIG = st.fixed_dictionaries(
    {},
    optional={
        "session_expiration_time": st.integers(0, 70),
        "carry_over_slots_to_new_session": st.booleans(),
    },
)


def likely(section: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """One as it should be, mostly."""
    return st.integers(0, 15).flatmap(lambda number: section if number else VALUES)


LIKELY = st.fixed_dictionaries(
    {},
    optional={
        "slots": likely(st.dictionaries(WORDS, SLOT, max_size=3)),
        "responses": likely(
            st.dictionaries(WORDS, st.lists(VARIATION, min_size=1, max_size=3), max_size=3)
        ),
        "intents": likely(NAMES),
        "entities": likely(NAMES),
        "actions": likely(NAMES),
        "e2e_actions": likely(st.lists(WORDS, max_size=3)),
        "forms": likely(st.dictionaries(WORDS, FORM, max_size=2)),
        "session_config": likely(CONFIG),
        "config": likely(CONFIG),
        "version": VALUES,
    },
)


@given(LIKELY)
def test_it_is_a_domain_or_an_error(data: dict[str, Any]) -> None:
    try:
        domain = Domain.from_dict(data)
    except ConfigurationError:
        return
    assert json.loads(domain.as_json()) == domain.as_dict()
    assert Domain.from_dict(domain.as_dict()).as_dict() == domain.as_dict()
    slots = InMemoryTrackerStore(domain).init_tracker("c").slots
    for name in domain.responses:
        json.dumps(domain.response(name, "x", slots, draw="1"))


@settings(max_examples=25)
@given(st.lists(LIKELY, min_size=1, max_size=3))
def test_a_folder_of_domains(files: list[dict[str, Any]]) -> None:
    """It is read, or an error names one of its files; the first file that declares a name counts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number, data in enumerate(files):
            stream = io.StringIO()
            YAML(typ="safe").dump(data, stream)
            (folder / f"{number}.yml").write_text(stream.getvalue(), "utf-8")
        try:
            merged = read_domain(folder)
        except ConfigurationError as error:
            said = str(error)
        else:
            said = ""
        assert not said or said.startswith(str(folder))
        if said:
            return
        for data in reversed(files):
            for slot in data.get("slots") or {}:
                first = next(one for one in files if slot in (one.get("slots") or {}))
                assert merged.slots[slot].type == first["slots"][slot]["type"]


def test_deeper_than_the_parser(tmp_path: Path) -> None:
    """It ends with the error of a file, not of Python."""
    (tmp_path / "domain.yml").write_text("a: " + "[" * 100_000)
    with pytest.raises(ConfigurationError, match=r"domain\.yml: is nested too deeply"):
        read_domain(tmp_path / "domain.yml")
