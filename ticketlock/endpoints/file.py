"""Reads an `endpoints.yml`, replaces `${NAME}`, and checks its sections."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..files.yaml import line_of, parse_yaml
from ..imports import schema
from ..settings.section import FALSE, hint, sentences

log = logging.getLogger("ticketlock")

#: Sections of ticketlock.
SECTIONS = (
    "lock_store", "tracker_store", "event_broker", "event_service", "server", "action_endpoint",
    "callback", "channels",
)  # fmt: skip
#: Sections of a Rasa file that are not used -> what replaces them.
FOREIGN = {
    "nlg": "the bot's function yields its texts itself",
    "nlu": "messages are not parsed; parse_data of a message is kept as it comes",
    "models": "no model is loaded; `ticketlock run --bot` names a function",
    "model_groups": "the bot's function calls language models itself",
    "vector_store": "the bot's function searches documents itself",
    "tracing": "traces are not set up in this file",
    "metrics": "metrics are not set up in this file",
    "secrets_manager": "secrets are values, or ${NAME} of the environment",
    "interaction_handling": "the section server bounds turns and requests",
    "privacy": "events are stored and published as they are",
}
#: Section -> keys of Rasa Pro in it that are not used -> why.
FOREIGN_KEYS = {
    "event_broker": {
        "stream_pii": "events are published as they are; false is refused",
        "anonymization_topics": "events are not anonymized",
        "anonymization_queues": "events are not anonymized",
    }
}
_PII = (
    "event_broker: stream_pii: false is not supported: events are published as they are; leave the "
    "section out, or the key if the consumers may have them"
)
#: Channels of a Rasa credentials file.
_CHANNELS = (
    "rest", "callback", "socketio", "rasa", "cmdline", "slack", "telegram", "facebook", "twilio",
    "twilio_voice", "mattermost", "rocketchat", "webexteams", "botframework", "hangouts",
    "browser_audio", "genesys", "audiocodes", "audiocodes_stream", "jambonz", "studio_chat",
    "development_inspector", "vier_cvg",
)  # fmt: skip
_REST = "`ticketlock run` serves this channel without the file"
_CALLBACK = "give it as the section callback of the endpoints.yml"
_OURS = "give its keys in the section channels of the endpoints.yml, as docs/reference/endpoints.md has them"
_OTHER = "`ticketlock run` does not have this channel; connect it by your own program"
#: Channel of a Rasa credentials file -> what to do with it, if not `_OTHER`.
_INSTEAD = {
    "rest": _REST,
    "callback": _CALLBACK,
    **dict.fromkeys(("slack", "telegram", "facebook", "twilio"), _OURS),
}

#: What to type when the file is missing.
_BEGIN = (
    "name another file (--endpoints FILE; config check FILE), or write this one. One line is enough to start: "
    "tracker_store: {type: sql, db: bot.db}. docs/guides/configure.md has more"
)

#: `${NAME}`, `${NAME:-default}`, `${NAME:?what to do}`; `$${NAME}` is the text `${NAME}`.
_VARIABLE = re.compile(r"\$(\$)?\{([A-Za-z_][A-Za-z0-9_]*)(?::(?:-([^}]*)|\?([^}]*)))?\}")

#: Characters that YAML requires to be escaped, or reads as line ends.
_UNPRINTED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ufffe\uffff]")


class EndpointConfig:
    """One section of `endpoints.yml`: its `type`, its `url`, and the other keys as `kwargs`."""

    def __init__(self, url: str | None = None, **kwargs: Any) -> None:
        self.url = url
        self.type: str | None = kwargs.pop("store_type", None) or kwargs.get("type")
        kwargs.pop("type", None)
        self.kwargs = kwargs

    def __repr__(self) -> str:
        # Values may be secrets, so only the names of the keys are shown.
        return f"EndpointConfig(type={self.type!r}, keys={sorted(self.kwargs)})"


@dataclass(frozen=True)
class Endpoints:
    """The sections of a file.

    Attributes:
        path: the file, for error texts.
        unused: sections of a Rasa file that are not used -> what replaces them.
        credentials: whether it is a Rasa credentials file, with its channels in `unused`.
    """

    path: str
    sections: dict[str, EndpointConfig] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    credentials: bool = False

    def section(self, name: str) -> EndpointConfig | None:
        """A section; None if it is missing."""
        return self.sections.get(name)

    def where(self, name: str) -> str:
        """File and section, for error texts."""
        return f"{self.path}: {name}"


def read_endpoints(path: str | Path, credentials: bool = False) -> Endpoints:
    """Read an `endpoints.yml`, and check its sections, but not their keys.

    Sections of a Rasa file that ticketlock does not use are logged.

    Args:
        credentials: accept a Rasa credentials file too, of which nothing is used.

    Raises ConfigurationError for a missing or invalid file, unknown sections, and unset
    variables, which are named with their lines.
    """
    name = str(path)
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{name}: not found in {Path(path).absolute().parent}: {_BEGIN}"
        ) from error
    except UnicodeDecodeError as error:  # its text has the whole file
        raise ConfigurationError(
            f"{name}: cannot be read: {error.reason} at byte {error.start + 1}: save it as UTF-8"
        ) from None
    except OSError as error:
        why = error.strerror or error  # without the file name
        raise ConfigurationError(f"{name}: cannot be read: {why}") from error
    document = parse_yaml(text, name)
    if document is None:
        document = {}
    if not isinstance(document, Mapping):
        raise ConfigurationError(f"{name}: is not a mapping of sections such as lock_store")
    channels = all(key in _CHANNELS or "." in str(key) for key in document)
    # A file with nothing but `callback` has a section of ours, which has the channel's keys.
    if channels and any(key not in SECTIONS for key in document):
        if not credentials:
            raise ConfigurationError(
                f"{name}: is a Rasa credentials file, of channels ({', '.join(document)}); an "
                f"endpoints.yml has the sections {', '.join(SECTIONS)}"
            )
        unused = {str(key): _INSTEAD.get(str(key), _OTHER) for key in document}
        return Endpoints(name, unused=unused, credentials=True)
    unused = {key: why for key, why in FOREIGN.items() if key in document}
    # Of what is not used, the variables need not be set.
    used = {key: values for key, values in document.items() if key not in FOREIGN}
    sections, said, above = {}, [], ""
    for key, raw in used.items():
        values = _filled(raw, name, line_of(document, key, 0))
        if problem := _problem(key, values, above):
            said.append(f"{key}: {problem}")
        elif key in SECTIONS and values is not None:
            foreign = FOREIGN_KEYS.get(str(key), {})
            unused |= {f"{key}.{k}": why for k, why in foreign.items() if k in values}
            if str(values.get("stream_pii", True)).lower() in FALSE:
                said.append(_PII)
            keys = {str(k): v for k, v in values.items() if k not in foreign}
            sections[str(key)] = EndpointConfig(**keys)
        elif key in SECTIONS:
            above = str(key)
    if said:
        raise ConfigurationError(f"{name}: " + sentences(said))
    if unused:
        log.info("%s: not used by ticketlock: %s", name, ", ".join(unused))
    return Endpoints(name, sections, unused)


def domain_path(endpoints: Endpoints) -> Path | None:
    """The file or folder of the domain, as the section `server` names it; None if it does not.

    A relative path is one from the folder of the endpoints file. Raises ConfigurationError.
    """
    section = endpoints.section("server")
    named = None if section is None else section.kwargs.get("domain")
    if named is None:
        return None
    if isinstance(named, str) and named:
        return Path(endpoints.path).parent / named
    raise ConfigurationError(f"{endpoints.where('server')}: domain: is not the path of a file")


def _problem(key: object, values: Any, above: str) -> str | None:
    """The problem of a section, apart from its keys; None if it has none.

    Args:
        above: a section without keys before it, to which those that are not indented may belong.
    """
    if key not in SECTIONS:
        if above:
            return f"is not a section; if it is a key of {above}, indent it"
        return f"is not a section; {schema().belongs(str(key)) or hint(key, SECTIONS)}"
    if values is None:
        return None
    if not isinstance(values, Mapping):
        return "is not a mapping of settings, such as {type: ...}"
    kind = values.get("type")
    return None if kind is None or isinstance(kind, str) else f"type: {kind!r} is not text"


def write_endpoints(path: Path, sections: Mapping[str, Any]) -> None:
    """Write a new file for `read_endpoints`, which only its owner may read.

    Raises FileExistsError.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it may contain passwords
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(yaml_text(_quoted(sections)))


def yaml_text(value: Any) -> str:
    """A value as YAML in one line, as JSON, which quotes all texts.

    Characters beyond U+FFFF are not escaped, because YAML does not know JSON's surrogates;
    characters that YAML cannot print are.
    """
    return _UNPRINTED.sub(
        lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False)
    )


def _quoted(value: Any) -> Any:
    """The value, with texts that look like variables escaped."""
    if isinstance(value, Mapping):
        return {key: _quoted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_quoted(item) for item in value]
    return _VARIABLE.sub(r"$\g<0>", value) if isinstance(value, str) else value


def _filled(value: Any, name: str, line: int = 0) -> Any:
    """The value with its variables replaced, as plain dictionaries, lists and texts."""
    if isinstance(value, Mapping):
        return {key: _filled(item, name, line_of(value, key, line)) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, name, line_of(value, i, line)) for i, item in enumerate(value)]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: _variable(match, name, line), str(value))
    return value


def _variable(match: re.Match[str], name: str, line: int) -> str:
    literal, variable, default, demand = match.groups()
    if literal:
        return match.group(0)[1:]
    value = os.environ.get(variable)
    if demand is not None and not value:
        said = f": {demand}" if demand else ""
        raise ConfigurationError(
            f"{name}: line {line}: environment variable {variable} is not set, or empty{said}"
        )
    if value is None and default is None:
        raise ConfigurationError(
            f"{name}: line {line}: environment variable {variable} is not set; "
            f"set it, or give a default: ${{{variable}:-...}}"
        )
    return default if value is None else value
