"""The keys of lock stores and tracker stores, for sections and constructors."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from .keys import Key


class NoKeys(TypedDict):
    """Keys of a type without settings."""


def _alphanumeric(prefix: str) -> str | None:
    return f"{prefix!r} is not alphanumeric" if prefix and not prefix.isalnum() else None


class RedisKeys(TypedDict, total=False):
    """Address and login of a Redis, without the number of the database."""

    url: Annotated[str | None, Key("another name of `host`")]
    host: Annotated[
        str | None,
        Key("host, `host:port`, `[::1]:port`, or a `redis://`, `rediss://` or `unix://` URL",
            shown="localhost"),
    ]  # fmt: skip
    port: Annotated[int, Key("TCP port", 6379, 1, 65535)]
    username: Annotated[str | None, Key("ACL user")]
    password: Annotated[str | None, Key("password of the user")]
    use_ssl: Annotated[bool, Key("connect by TLS", False)]
    ssl_certfile: Annotated[str | None, Key("client certificate, a PEM file")]
    ssl_keyfile: Annotated[str | None, Key("its key, a PEM file")]
    ssl_ca_certs: Annotated[
        str | None, Key("authorities to trust, a PEM file", shown="the system's")
    ]
    ssl_check_hostname: Annotated[
        bool, Key("the server's certificate must be for the host that is connected to", True)
    ]
    key_prefix: Annotated[
        str | None, Key("letters and digits, put before every key", check=_alphanumeric)
    ]
    socket_timeout: Annotated[float, Key("seconds for connecting and for an answer", 10.0, 0.001)]
    deployment_mode: Annotated[
        Literal["standard", "cluster", "sentinel"],
        Key("one server, a Redis Cluster, or servers behind sentinels", "standard"),
    ]
    endpoints: Annotated[
        Sequence[str], Key("`host:port` of the sentinels, or of nodes of the cluster", ())
    ]
    sentinel_service: Annotated[str, Key("the name of the master", "mymaster")]
    sentinel_username: Annotated[
        str | None, Key("user at the sentinels, which have users of their own")
    ]
    sentinel_password: Annotated[str | None, Key("password of that user")]
    unix_socket_path: Annotated[str | None, Key("socket file, instead of host and port")]
    credential_provider: Annotated[
        Any, Key("redis-py's `CredentialProvider`, instead of user and password", python_only=True)
    ]


class RedisLockKeys(RedisKeys, total=False):
    """Keys of a Redis for locks."""

    db: Annotated[int, Key("number of the database", 1, 0)]


class WaitingKeys(TypedDict, total=False):
    """Keys of all lock stores on Redis."""

    max_waiting: Annotated[
        int | None,
        Key(
            "how many tickets may wait for one conversation",
            None,
            0,
            999_999_999,
            shown="any number",
        ),
    ]


class DurabilityKeys(TypedDict, total=False):
    """Keys of `concurrent_redis` only: what grants and accepted messages must outlive."""

    durability: Annotated[
        Literal["none", "replicas", "majority", "aof", "server"],
        Key("what a grant or an accepted message must outlive before it counts: nothing; the loss of "
            "this server, because replicas have it (`replicas`, or with sentinels or a cluster "
            "`majority`); its restart, because its log is on the disk (`aof`). `server`: the server "
            "answers only after that by itself", "none"),
    ]  # fmt: skip
    durability_replicas: Annotated[
        int, Key("with `durability: replicas`, how many must have it", 1, 1, 1000)
    ]
    durability_timeout: Annotated[
        float,
        Key(
            "seconds that replicas or the disk may take, before that counts as a fault",
            2.0,
            0.01,
            60,
        ),
    ]
    durability_degraded: Annotated[
        Literal["serve", "refuse"],
        Key(
            "what to do while they take longer: go on without, or grant and accept nothing", "serve"
        ),
    ]


class TimingKeys(WaitingKeys, total=False):
    """Keys of `concurrent_redis` only."""

    lease: Annotated[float, Key("seconds that a holder keeps its turn without renewal", 4.0, 0.5)]
    waiter_ttl: Annotated[
        float, Key("seconds that a waiting process keeps its places without heartbeat", 2.5, 0.5)
    ]
    idle_expiry: Annotated[
        float, Key("seconds for which the keys of a finished conversation stay", 3600.0, 60, 1e9)
    ]


class RedisLockStoreKeys(RedisLockKeys, WaitingKeys, total=False):
    """Keys of `lock_store`, type `redis`."""

    lease: Annotated[
        float | None,
        Key("seconds that a ticket lives without renewal: a killed process delays the next one so "
            "long, and one whose event loop stands still for longer loses its turn",
            low=0.5, shown="5"),
    ]  # fmt: skip


class ConcurrentRedisKeys(RedisLockKeys, TimingKeys, DurabilityKeys):
    """Keys of `lock_store`, type `concurrent_redis`."""


class RedisTrackerKeys(RedisKeys, total=False):
    """Keys of `tracker_store`, type `redis`."""

    db: Annotated[int, Key("number of the database", 0, 0)]
    record_exp: Annotated[
        float | None,
        Key("seconds after its last write at which a conversation expires; it stays while events "
            "of it wait to be published", low=0.001, shown="never"),
    ]  # fmt: skip


class TLSKeys(TypedDict, total=False):
    """TLS to an SQL database; not for SQLite and Oracle."""

    use_ssl: Annotated[
        bool | None,
        Key("true: TLS, or no connection; false: no TLS. Without any key for TLS PostgreSQL's "
            "drivers use it if the server has it, and verify nothing",
            shown="true if another key for TLS is set"),
    ]  # fmt: skip
    ssl_ca_certs: Annotated[
        str | None, Key("authorities to trust, a PEM file", shown="the system's")
    ]
    ssl_certfile: Annotated[str | None, Key("client certificate, a PEM file")]
    ssl_keyfile: Annotated[str | None, Key("its key, a PEM file")]
    ssl_check_hostname: Annotated[
        bool | None,
        Key("the server's certificate must be for the host that is connected to; false warns "
            "at each start", shown="true"),
    ]  # fmt: skip
    tls_verify: Annotated[
        bool | None,
        Key("false accepts any certificate, and warns at each start", shown="true"),
    ]  # fmt: skip


class SQLKeys(TLSKeys, total=False):
    """Address and login of an SQL database, without its dialect and name."""

    url: Annotated[
        str | None,
        Key("host, `host:port`, or a database URL, which replaces `dialect`, `port`, `db`, "
            "`username`, `password`, `query` and `login_db`"),
    ]  # fmt: skip
    host: Annotated[str | None, Key("another name of `url`")]
    port: Annotated[int | None, Key("TCP port", None, 1, 65535, shown="the database's usual one")]
    username: Annotated[str | None, Key("user")]
    password: Annotated[str | None, Key("password of the user")]
    login_db: Annotated[
        str | None,
        Key("PostgreSQL: the database to log in to in order to create `db`; without it `db` "
            "must exist"),
    ]  # fmt: skip
    query: Annotated[Mapping[str, str] | None, Key("parameters of the URL")]
    timeout: Annotated[
        float,
        Key("seconds that an operation may take, waiting for a connection included", 60.0, 0.1),
    ]
    pool_size: Annotated[int, Key("connections that are kept open", 20, 1, 1000)]
    max_overflow: Annotated[int, Key("further connections for a peak", 10, 0, 1000)]
    pool_timeout: Annotated[
        float, Key("seconds that an operation waits for a connection", 10.0, 0.1)
    ]


#: `dialect`, which is a positional argument of a broker's constructor.
Dialect = Annotated[
    str,
    Key("`sqlite`, `postgresql`, `mysql`, `mariadb` or `oracle`; a driver behind it (`+psycopg`) "
        "is replaced unless it is one that does not block", "sqlite"),
]  # fmt: skip


class SQLStoreKeys(SQLKeys, total=False):
    """Keys of `tracker_store`, type `sql`."""

    dialect: Dialect
    db: Annotated[str, Key("name of the database; SQLite: its file, or `:memory:`", "rasa.db")]


class MongoKeys(TypedDict, total=False):
    """Keys of `tracker_store`, type `mongod`."""

    url: Annotated[
        str | None, Key("host, or a `mongodb://` URL", shown="mongodb://localhost:27017")
    ]
    host: Annotated[str | None, Key("another name of `url`")]
    db: Annotated[str, Key("name of the database", "rasa")]
    collection: Annotated[
        str, Key("name of the documented collection; ours add a suffix", "conversations")
    ]
    username: Annotated[str | None, Key("user")]
    password: Annotated[str | None, Key("password of the user")]
    auth_source: Annotated[
        str | None, Key("database in which the user is", shown="admin, if there is a username")
    ]
    socket_timeout: Annotated[
        float, Key("seconds to find the server, to connect, and for an answer", 10.0, 0.001)
    ]


class DynamoKeys(TypedDict, total=False):
    """Keys of `tracker_store`, type `dynamo`. Credentials come from the usual AWS chain."""

    table_name: Annotated[
        str, Key("name of the documented table; ours add a suffix. They are created", "states")
    ]
    region: Annotated[str, Key("AWS region", "us-east-1")]
    endpoint_url: Annotated[str | None, Key("address of a local server", shown="AWS")]
    max_pool_connections: Annotated[
        int, Key("most connections, and most operations at a time", 50, 1)
    ]
    socket_timeout: Annotated[float, Key("seconds for connecting and for an answer", 10.0, 0.001)]
