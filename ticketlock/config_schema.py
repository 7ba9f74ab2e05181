"""The JSON Schema of `endpoints.yml`, for editors; the code remains the judge."""

from __future__ import annotations

from typing import Any

_TEXT, _FLAG = "string", "boolean"
#: Text too, because `${NAME}` is text.
_NUMBER, _INTEGER = ["number", "string"], ["integer", "string"]
_TEXTS = {"type": ["array", "string"], "items": {"type": "string"}}

_REDIS: dict[str, Any] = {
    "url": _TEXT, "host": _TEXT, "port": _INTEGER, "db": _INTEGER, "username": _TEXT,
    "password": _TEXT, "use_ssl": _FLAG, "ssl_certfile": _TEXT, "ssl_keyfile": _TEXT,
    "ssl_ca_certs": _TEXT, "ssl_check_hostname": _FLAG, "key_prefix": _TEXT,
    "socket_timeout": _NUMBER, "deployment_mode": _TEXT, "endpoints": _TEXTS,
    "sentinel_service": _TEXT, "sentinel_username": _TEXT, "sentinel_password": _TEXT,
    "unix_socket_path": _TEXT,
}  # fmt: skip

_SQL: dict[str, Any] = {
    "url": _TEXT, "host": _TEXT, "dialect": _TEXT, "port": _INTEGER, "db": _TEXT,
    "username": _TEXT, "password": _TEXT, "login_db": _TEXT, "query": "object",
    "timeout": _NUMBER, "pool_size": _INTEGER, "max_overflow": _INTEGER, "pool_timeout": _NUMBER,
    "use_ssl": _FLAG, "ssl_ca_certs": _TEXT, "ssl_certfile": _TEXT, "ssl_keyfile": _TEXT,
    "ssl_check_hostname": _FLAG, "tls_verify": _FLAG,
}  # fmt: skip

#: section -> type -> key -> JSON type (or a schema of its own)
KEYS: dict[str, dict[str, dict[str, Any]]] = {
    "lock_store": {
        "in_memory": {},
        "redis": {**_REDIS, "max_waiting": _INTEGER},
        "concurrent_redis": {
            **_REDIS, "max_waiting": _INTEGER, "lease": _NUMBER, "waiter_ttl": _NUMBER,
            "idle_expiry": _NUMBER,
        },
    },
    "tracker_store": {
        "in_memory": {},
        "sql": _SQL,
        "redis": {**_REDIS, "record_exp": _NUMBER},
        "mongod": {
            "url": _TEXT, "host": _TEXT, "db": _TEXT, "collection": _TEXT, "username": _TEXT,
            "password": _TEXT, "auth_source": _TEXT, "socket_timeout": _NUMBER,
        },
        "dynamo": {
            "table_name": _TEXT, "region": _TEXT, "endpoint_url": _TEXT,
            "max_pool_connections": _INTEGER, "socket_timeout": _NUMBER,
        },
    },
    "event_broker": {
        "pika": {
            "url": _TEXT, "host": _TEXT, "port": _INTEGER, "username": _TEXT, "password": _TEXT,
            "queues": _TEXTS, "exchange_name": _TEXT, "should_keep_unpublished_messages": _FLAG,
            "raise_on_failure": _FLAG, "connection_attempts": _INTEGER,
            "retry_delay_in_seconds": _NUMBER,
        },
        "kafka": {
            "url": _TEXTS, "topic": _TEXT, "client_id": _TEXT, "partition_by_sender": _FLAG,
            "security_protocol": _TEXT, "sasl_mechanism": _TEXT, "sasl_username": _TEXT,
            "sasl_password": _TEXT, "sasl_oauthbearer_token_endpoint_url": _TEXT,
            "ssl_cafile": _TEXT, "ssl_certfile": _TEXT, "ssl_keyfile": _TEXT,
            "ssl_check_hostname": _FLAG, "queue_size": _INTEGER, "socket_keepalive_enable": _FLAG,
            "reconnect_backoff_ms": _INTEGER, "reconnect_backoff_max_ms": _INTEGER,
            "topic_metadata_refresh_interval_ms": _INTEGER,
        },
        "sql": _SQL,
        "file": {"path": _TEXT},
    },
    "event_service": {"sql": {**_SQL, "group": _TEXT, "instance": _TEXT, "queue": _TEXT}},
    "server": {
        "http": {
            "double_texting": _TEXT, "message_window": _NUMBER, "max_waiting": _INTEGER,
            "request_timeout": _NUMBER, "lock_lifetime": _NUMBER, "max_body": _INTEGER,
            "body_timeout": _NUMBER, "drain_timeout": _NUMBER, "auth_token": _TEXT,
            "jwt_secret": _TEXT, "jwt_method": _TEXT, "channel_token": _TEXT,
            "admin_token": _TEXT, "open_channels": _FLAG, "max_duplicates": _INTEGER,
            "max_turns": _INTEGER, "max_connections": _INTEGER, "head_timeout": _NUMBER,
            "max_text": _INTEGER, "max_values": _INTEGER, "max_depth": _INTEGER,
            "body_budget": _INTEGER, "signed_body_budget": _INTEGER,
            "allowed_hosts": _TEXTS, "cors_origins": _TEXTS, "jwt_leeway": _NUMBER,
            "jwt_require_exp": _FLAG,
            "max_attempts": _INTEGER,
            "session_expiration_time": _NUMBER, "carry_over_slots": _FLAG,
            "max_session_events": _INTEGER, "max_session_bytes": _INTEGER,
        },
    },
}  # fmt: skip

#: Section -> the type that it means without `type`, where the schema judges that too.
_UNTYPED = {"event_broker": "pika", "event_service": "sql", "server": "http"}


def schema() -> dict[str, Any]:
    """The schema; sections of other programs and custom types are let through."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "endpoints.yml of ticketlock",
        "type": "object",
        "properties": {name: _section(name, types) for name, types in KEYS.items()},
    }


def _section(name: str, types: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A section: the keys of its `type`; any keys for the module path of a custom class."""
    cases = [
        {
            "if": {
                "properties": {"type": {"const": kind}},
                "required": [] if _UNTYPED.get(name) == kind else ["type"],
            },
            "then": {
                "properties": {"type": {}, **{key: _type(what) for key, what in keys.items()}},
                "additionalProperties": False,
            },
        }
        for kind, keys in types.items()
    ]
    kind = {"type": "string", "description": "or the module path of a class", "examples": [*types]}
    return {"type": ["object", "null"], "properties": {"type": kind}, "allOf": cases}


def _type(what: Any) -> dict[str, Any]:
    return dict(what) if isinstance(what, dict) else {"type": what}
