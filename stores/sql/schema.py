"""The tables: the documented `events`, which stays as it is, and our own beside it."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.ext.compiler import compiles

from ticketlock.events import SESSION_START
from ticketlock.tracker.outbox import now_ms

#: Characters of an id that the documented columns hold.
MAX_NAME = 255

metadata = sa.MetaData()

#: Where `by_sender` is made.
INDEXED = ("postgresql", "oracle")


class ConversationKey(sa.String):
    """A conversation id that is equal only to itself.

    MariaDB and MySQL compare text without regard to trailing spaces (and mostly to case):
    there the column holds bytes, which are those of the UTF-8 that the connection sends.
    """

    cache_ok = True


@compiles(ConversationKey, "mysql", "mariadb")
def _bytes(*_: Any, **__: Any) -> str:
    return f"VARBINARY({4 * MAX_NAME})"


def _name() -> Any:
    text = sa.String(MAX_NAME)
    exact = mysql.VARCHAR(MAX_NAME, charset="utf8mb4", collation="utf8mb4_bin")
    return text.with_variant(exact, "mysql", "mariadb")


#: The documented table. Where we are the ones to make it, MySQL gets types that hold what
#: the others hold: its TEXT ends at 64 KiB, its FLOAT is off by minutes.
events = sa.Table(
    "events",
    metadata,
    # SQLite counts only what it calls INTEGER, and that has 64 bits there.
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True),
    sa.Column("sender_id", _name(), nullable=False, index=True),
    sa.Column("type_name", _name(), nullable=False),
    sa.Column("timestamp", sa.Float().with_variant(mysql.DOUBLE(), "mysql", "mariadb")),
    sa.Column("intent_name", _name()),
    sa.Column("action_name", _name()),
    sa.Column("data", sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")),
)

#: Where row numbers come from on Oracle; elsewhere the column counts by itself.
events_seq = sa.Sequence("events_seq")

#: A conversation's own rows must be found in order without looking at its other rows.
#: SQLite and MySQL keep the row number in the documented index already.
by_sender = sa.Index("ticketlock_events_by_sender", events.c.sender_id, events.c.id)
by_sender.ddl_if(dialect=INDEXED)  # type: ignore[arg-type]  # a tuple is documented

#: One row a conversation, made when it is first written to. `last_id` is the row of its last
#: event that `sequence` counts, `session_id` the row where its latest session begins; rows
#: behind `last_id` were written by somebody else and are counted at the next claim.
conversations = sa.Table(
    "ticketlock_conversations",
    metadata,
    sa.Column("sender_id", ConversationKey(MAX_NAME), primary_key=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    # Oracle takes an empty text for NULL.
    sa.Column("owner", _name()),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("last_id", sa.BigInteger, nullable=False),
    sa.Column("session_id", sa.BigInteger, nullable=False),
    # Milliseconds since the epoch at which the row was made: tells lives of an id apart.
    sa.Column("born", sa.BigInteger, nullable=False),
    # The outbox (`ticketlock.outbox`); all NULL when nothing waits. `outbox` is the number of
    # the first event that waits, `outbox_id` a row number before it; times in milliseconds.
    sa.Column("outbox", sa.BigInteger),
    sa.Column("outbox_id", sa.BigInteger),
    sa.Column("outbox_since", sa.BigInteger),
    sa.Column("outbox_at", sa.BigInteger, index=True),
    sa.Column("relay", _name()),
    mysql_engine="InnoDB",
)

#: Events that no attempt will deliver.
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


#: The conversation that a statement is about. Statements are made once: with SQLAlchemy that
#: takes longer than to execute them.
WHOSE: sa.BindParameter[str] = sa.bindparam("whose", type_=sa.String)
#: A row number.
ROW: sa.BindParameter[int] = sa.bindparam("row", type_=sa.BigInteger)


def of(sender_id: Any, dialect: str) -> sa.ColumnElement[bool]:
    """The condition for the events of a conversation, exact in every collation.

    Args:
        sender_id: its id, or `WHOSE`.
    """
    same: sa.ColumnElement[bool] = events.c.sender_id == sender_id
    if dialect in ("mysql", "mariadb"):
        exact = sender_id if sender_id is WHOSE else sa.literal(sender_id, sa.String)
        same &= key_column(dialect) == exact
    return same


def key_column(dialect: str) -> sa.ColumnElement[Any]:
    """The events' conversation id, such that different ids differ."""
    if dialect in ("mysql", "mariadb"):
        converted: sa.ColumnElement[Any] = sa.literal_column(
            "CONVERT(events.sender_id USING utf8mb4)"
        )
        return sa.cast(converted, sa.LargeBinary)
    return events.c.sender_id


def text(key: Any) -> str:
    """The id that a `ConversationKey` column holds."""
    if isinstance(key, (bytes, memoryview)):
        return bytes(key).decode(errors="surrogateescape")
    return str(key)  # SQLite keeps what it is given


@cache
def behind(dialect: str) -> sa.Select[Any]:
    """Count, last row and last session's row of the events of `WHOSE` after `ROW`."""
    starts = (events.c.type_name == "action") & (events.c.action_name == SESSION_START)
    return sa.select(
        sa.func.count().label("many"),
        sa.func.coalesce(sa.func.max(events.c.id), 0).label("last_id"),
        sa.func.coalesce(sa.func.max(sa.case((starts, events.c.id))), 0).label("session_id"),
    ).where(of(WHOSE, dialect), events.c.id > ROW)


def tail(sender_id: Any, dialect: str) -> sa.Select[Any]:
    """Rows of the events of a conversation, to be narrowed and ordered."""
    return sa.select(events.c.id, events.c.data).where(of(sender_id, dialect))


@cache
def since(dialect: str) -> sa.Select[Any]:
    """Rows of the events of `WHOSE` from `ROW` on."""
    return tail(WHOSE, dialect).where(events.c.id >= ROW).order_by(events.c.id)


@cache
def latest(dialect: str) -> sa.Select[Any]:
    """Rows of the last `most` events of `WHOSE`, the last one first."""
    most = sa.bindparam("most", type_=sa.Integer)
    return tail(WHOSE, dialect).order_by(events.c.id.desc()).limit(most)


@cache
def drop(dialect: str) -> sa.Delete:
    """Delete the events of `WHOSE`."""
    return sa.delete(events).where(of(WHOSE, dialect))


_mine = conversations.c.sender_id == sa.bindparam("whose", type_=conversations.c.sender_id.type)

#: The conversation's row.
row = sa.select(conversations).where(_mine)
#: The same, held until the transaction ends.
locked = row.with_for_update()
#: Change columns of it: those that are given a value.
note = sa.update(conversations).where(_mine)
_claimed = sa.bindparam("claimed", type_=sa.BigInteger)
_claimant = sa.bindparam("claimant", type_=sa.String)
_held = conversations.c
#: Give it to `claimant` with the fence `claimed`, unless a later one has it.
claim = (
    sa.update(conversations)
    .where(_mine, (_held.fence < _claimed) | (_held.fence == _claimed) & (_held.owner == _claimant))
    .values(fence=_claimed, owner=_claimant)
)
#: The same, giving the row as it is then; not on every database.
claim_returning = claim.returning(conversations)
#: Delete it.
forget = sa.delete(conversations).where(_mine)


@cache
def add_events(dialect: str) -> sa.Insert:
    """Insert rows of `events`, to be executed with their values."""
    made = sa.insert(events)
    if dialect == "postgresql":
        # Makes it one statement: in a pipeline of many the server would wait for the rest of
        # it without a time limit, and hold the row, if this process froze in the middle.
        return made.returning(events.c.id, sort_by_parameter_order=True)
    return made.values(id=events_seq.next_value()) if dialect == "oracle" else made


@cache
def add_conversation(dialect: str) -> sa.Insert:
    """Insert the conversation's row, with the values of `begun`, unless it is there."""
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert

        return insert(conversations).on_conflict_do_nothing()
    if dialect == "sqlite":
        from sqlalchemy.dialects.sqlite import insert as sqlite_insert

        return sqlite_insert(conversations).on_conflict_do_nothing()
    made = sa.insert(conversations)
    return made.prefix_with("IGNORE") if dialect in ("mysql", "mariadb") else made


def begun(sender_id: str) -> dict[str, Any]:
    """The row of a conversation that begins now."""
    return {
        "sender_id": sender_id, "fence": 0, "owner": None,
        "sequence": 0, "last_id": 0, "session_id": 0, "born": now_ms(),
    }  # fmt: skip
