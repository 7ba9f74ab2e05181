"""The tables: the documented `events`, which stays as it is, and our own beside it."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from ticketlock.events import SESSION_START
from ticketlock.tracker.outbox import now_ms

#: Characters that an id may have in the documented columns.
MAX_NAME = 255

metadata = sa.MetaData()

#: Dialects for which `by_sender` is created.
INDEXED = ("postgresql", "oracle")


class ConversationKey(sa.String):
    """A conversation id that is compared exactly.

    MariaDB and MySQL ignore trailing spaces, and mostly case, when they compare text. There the
    column has the bytes of the UTF-8 text.
    """

    cache_ok = True


@compiles(ConversationKey, "mysql", "mariadb")
def _bytes(*_: Any, **__: Any) -> str:
    return f"VARBINARY({4 * MAX_NAME})"


def _name() -> Any:
    text = sa.String(MAX_NAME)
    exact = mysql.VARCHAR(MAX_NAME, charset="utf8mb4", collation="utf8mb4_bin")
    return text.with_variant(exact, "mysql", "mariadb")


#: The documented table. If the library creates it, MySQL gets larger types: its TEXT ends at
#: 64 KiB, and its FLOAT loses minutes of a timestamp.
events = sa.Table(
    "events",
    metadata,
    # SQLite numbers only INTEGER columns by itself; they have 64 bits.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("sender_id", _name(), nullable=False, index=True),
    sa.Column("type_name", _name(), nullable=False),
    sa.Column("timestamp", sa.Float().with_variant(mysql.DOUBLE(), "mysql", "mariadb")),
    sa.Column("intent_name", _name()),
    sa.Column("action_name", _name()),
    sa.Column("data", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
)

#: Behind `events` in a query of MariaDB or MySQL for rows of one conversation. Where the primary key is
#: a choice too, MariaDB may take all index entries of the conversation instead of the range asked for.
BY_SENDER = "IGNORE INDEX (PRIMARY)"

#: Row numbers on Oracle; other databases number the column by themselves.
events_seq = sa.Sequence("events_seq")

#: To read a conversation's latest rows in order without its older ones. In SQLite and MySQL the
#: documented index has the row number already.
by_sender = sa.Index("ticketlock_events_by_sender", events.c.sender_id, events.c.id)
by_sender.ddl_if(dialect=INDEXED)  # type: ignore[arg-type]  # a tuple is documented

#: One row per conversation, created by the first write. `last_id` is the row of the last event
#: that `sequence` counts, `session_id` the row where the latest session begins. Rows behind
#: `last_id` were written by other programs, and the next claim counts them.
conversations = sa.Table(
    "ticketlock_conversations",
    metadata,
    sa.Column("sender_id", ConversationKey(MAX_NAME), primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    # Nullable: Oracle stores an empty text as NULL.
    sa.Column("owner", _name()),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("last_id", sa.BigInteger, nullable=False),
    sa.Column("session_id", sa.BigInteger, nullable=False),
    # The conversation's `history`: milliseconds since the epoch at which the row was created.
    sa.Column("born", sa.BigInteger, nullable=False),
    # The outbox (`ticketlock.tracker.outbox`); all NULL if no event waits. `outbox` is the number
    # of the first waiting event, `outbox_id` a row number before it; times in milliseconds.
    sa.Column("outbox", sa.BigInteger),
    sa.Column("outbox_id", sa.BigInteger),
    sa.Column("outbox_since", sa.BigInteger),
    sa.Column("outbox_at", sa.BigInteger, index=True),
    sa.Column("relay", _name()),
    # The conversation's mark as a JSON text in ASCII, for any character set; since 0.5.0, see
    # `marks`.
    sa.Column("mark", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
    mysql_engine="InnoDB",
)

#: Events that cannot be delivered.
dead_letters = sa.Table(
    "ticketlock_dead_letters",
    metadata,
    sa.Column("sender_id", ConversationKey(MAX_NAME), primary_key=True),
    sa.Column("history", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("data", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
    sa.Column("reason", sa.Text()),
    sa.Column("at", sa.BigInteger, nullable=False),
    mysql_engine="InnoDB",
)


#: The conversation that a statement is about. Statements are built once, because building one
#: takes longer than executing it.
CONVERSATION: sa.BindParameter[str] = sa.bindparam("conversation", type_=sa.String)
#: A row number.
ROW: sa.BindParameter[int] = sa.bindparam("row", type_=sa.BigInteger)


def of(sender_id: Any, dialect: str) -> sa.ColumnElement[bool]:
    """The condition for the events of a conversation; exact with any collation.

    Args:
        sender_id: its id, or `CONVERSATION`.
    """
    same: sa.ColumnElement[bool] = events.c.sender_id == sender_id
    if dialect in ("mysql", "mariadb"):
        exact = sender_id if sender_id is CONVERSATION else sa.literal(sender_id, sa.String)
        same &= key_column(dialect) == exact
    return same


def key_column(dialect: str) -> sa.ColumnElement[Any]:
    """The events' conversation id in a form that is compared exactly."""
    if dialect in ("mysql", "mariadb"):
        converted: sa.ColumnElement[Any] = sa.literal_column(
            "CONVERT(events.sender_id USING utf8mb4)"
        )
        return sa.cast(converted, sa.LargeBinary)
    return events.c.sender_id


def text(key: Any) -> str:
    """The id in a value of a `ConversationKey` column."""
    if isinstance(key, (bytes, memoryview)):
        return bytes(key).decode(errors="surrogateescape")
    return str(key)  # SQLite returns the type that was stored


def _by_sender(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.with_hint(events, BY_SENDER, "mysql").with_hint(events, BY_SENDER, "mariadb")


@cache
def behind(dialect: str) -> sa.Select[Any]:
    """Count, last row and last session's row of the events of `CONVERSATION` after `ROW`."""
    starts = (events.c.type_name == "action") & (events.c.action_name == SESSION_START)
    query = sa.select(
        sa.func.count().label("many"),
        sa.func.coalesce(sa.func.max(events.c.id), 0).label("last_id"),
        sa.func.coalesce(sa.func.max(sa.case((starts, events.c.id))), 0).label("session_id"),
    )
    return _by_sender(query.where(of(CONVERSATION, dialect), events.c.id > ROW))


def tail(sender_id: Any, dialect: str) -> sa.Select[Any]:
    """Rows of the events of a conversation; the caller adds conditions and order."""
    return _by_sender(sa.select(events.c.id, events.c.data).where(of(sender_id, dialect)))


@cache
def since(dialect: str) -> sa.Select[Any]:
    """Rows of the events of `CONVERSATION` from `ROW` on."""
    return tail(CONVERSATION, dialect).where(events.c.id >= ROW).order_by(events.c.id)


@cache
def latest(dialect: str) -> sa.Select[Any]:
    """Rows of the last `limit` events of `CONVERSATION`, the last one first."""
    limit = sa.bindparam("limit", type_=sa.Integer)
    return tail(CONVERSATION, dialect).order_by(events.c.id.desc()).limit(limit)


@cache
def drop(dialect: str) -> sa.Delete:
    """Delete the events of `CONVERSATION`."""
    return sa.delete(events).where(of(CONVERSATION, dialect))


_mine = conversations.c.sender_id == sa.bindparam(
    "conversation", type_=conversations.c.sender_id.type
)

#: All columns but the mark, which only a claim reads; a table may lack it.
_head = [column for column in conversations.c if column.name != "mark"]

#: All rows, without their marks.
unmarked = sa.select(*_head)
#: The conversation's row.
row = unmarked.where(_mine)
#: The same with its mark.
marked = sa.select(conversations).where(_mine)
#: The same, locked until the transaction ends.
locked = row.with_for_update()
#: Change those of its columns that are given a value.
note = sa.update(conversations).where(_mine)
_claimed = sa.bindparam("claimed", type_=sa.BigInteger)
_claimant = sa.bindparam("claimant", type_=sa.String)
_held = conversations.c
#: Give it to `claimant` with the fence `claimed`, unless it has a later fence.
claim = (
    sa.update(conversations)
    .where(_mine, (_held.fence < _claimed) | (_held.fence == _claimed) & (_held.owner == _claimant))
    .values(fence=_claimed, owner=_claimant)
)
#: The same, returning the changed row; not every database can. And that with its mark.
claim_returning = claim.returning(*_head)
claim_returning_marked = claim.returning(conversations)
#: Delete it.
forget = sa.delete(conversations).where(_mine)


@cache
def add_events(dialect: str) -> sa.Insert:
    """Insert rows of `events`; execute it with their values."""
    made = sa.insert(events)
    if dialect == "postgresql":
        # With RETURNING it is one statement. Otherwise the driver pipelines many, and if this
        # process froze in between, the server would keep the lock without a time limit.
        return made.returning(events.c.id, sort_by_parameter_order=True)
    return made.values(id=events_seq.next_value()) if dialect == "oracle" else made


@cache
def add_conversation(dialect: str) -> sa.Insert:
    """Insert the conversation's row, with the values of `begun`, unless it exists."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert

        return insert(conversations).on_conflict_do_nothing()
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(conversations).on_conflict_do_nothing()
    made = sa.insert(conversations)
    return made.prefix_with("IGNORE") if dialect in ("mysql", "mariadb") else made


def begun(sender_id: str) -> dict[str, Any]:
    """The row of a new conversation."""
    return {
        "sender_id": sender_id, "fence": 0, "owner": None,
        "sequence": 0, "last_id": 0, "session_id": 0, "born": now_ms(),
    }  # fmt: skip
