"""The tables in PostgreSQL: the schema of the embedded store, and the little there is besides."""

from contextlib import closing
from importlib.resources import files
from typing import Any, Final

import psycopg
import structlog

from muster.store.connection import NewerDatabase, NotADatabase
from muster.store.dialect import schema_in_postgres
from muster.store.postgres.connection import (
    SCHEMA,
    Address,
    connect,
    first_line,
    translated_errors,
)
from muster.store.postgres.transactions import WRITE_LOCK
from muster.store.schema import schema_statements
from muster.store.statements import load_migrations

log = structlog.get_logger()

SERVER_VERSION_MIN: Final = 140_000  # functions with bodies of SQL


def migrate(raw: "psycopg.Connection[Any]", address: Address) -> None:
    """Bring the schema up to date; of several servers that start at once, one does.

    Raises:
        NewerDatabase: a newer muster has written it; nothing was changed.
        NotADatabase: it cannot be used by muster.
    """
    if raw.info.server_version < SERVER_VERSION_MIN:
        raise NotADatabase(
            f"{address} is PostgreSQL {raw.info.server_version // 10_000}; muster needs"
            f" {SERVER_VERSION_MIN // 10_000} or later."
        )
    if raw.info.parameter_status("server_encoding") != "UTF8":
        raise NotADatabase(f"{address} is not in UTF-8; make one with ENCODING 'UTF8'.")
    scripts = load_migrations("postgres")
    raw.execute("SELECT pg_advisory_xact_lock(%s)", (WRITE_LOCK,))
    present = _schema_number(raw, address)
    if present is None:
        _make_schema(raw)
        present = len(scripts)
        raw.execute(
            "CREATE TABLE schema_number AS SELECT CAST(%s AS integer) AS number", (present,)
        )
    for number, script in scripts[present:]:
        raw.execute(schema_in_postgres(script))
        raw.execute("UPDATE schema_number SET number = %s", (number,))
    raw.execute(_own_sql("marks.sql"))
    raw.commit()


def _schema_number(raw: "psycopg.Connection[Any]", address: Address) -> int | None:
    """None: there is no schema of muster yet.

    Raises:
        NewerDatabase: a newer muster has written it.
        NotADatabase: the schema of that name is not muster's.
    """
    has_schema, tables = raw.execute(
        "SELECT to_regnamespace(%(schema)s) IS NOT NULL,"
        " (SELECT count(*) FROM information_schema.columns"
        "   WHERE table_schema = %(schema)s"
        "     AND (table_name, column_name) IN (('schema_number', 'number'), ('workload', 'uid')))",
        {"schema": SCHEMA},
    ).fetchone() or (False, 0)
    if not has_schema:
        return None
    if tables != 2:
        raise NotADatabase(
            f"{address} has a schema {SCHEMA!r} that is not muster's, or that this user may not"
            " read. Name another database, or another user."
        )
    [number] = raw.execute("SELECT number FROM schema_number").fetchone() or (0,)
    if number > len(load_migrations()):
        raise NewerDatabase(
            f"The database has schema {number}; this muster knows up to {len(load_migrations())}."
            " Start the muster that wrote it, or a newer one."
        )
    return int(number)


def require_schema(url: str) -> int:
    """The number of the schema that is there.

    Raises:
        NotADatabase, NewerDatabase: there is none, or none that this muster can read.
    """
    address = Address(url)
    with translated_errors(address), closing(connect(address)) as raw:
        present = _schema_number(raw, address)
    if present is None:
        raise NotADatabase(f"There is no muster in {address}; start `muster serve` on it once.")
    return present


def _make_schema(raw: "psycopg.Connection[Any]") -> None:
    """The schema of the embedded store, as all its migrations together have it."""
    raw.execute(f"CREATE SCHEMA {SCHEMA}")
    raw.execute(_own_sql("baseline.sql"))
    for statement in schema_statements():
        raw.execute(schema_in_postgres(statement))
    try:
        with raw.transaction():
            raw.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA public")
    except psycopg.Error as error:
        log.warning("search_without_index", why=first_line(error))
    found = raw.execute(
        "SELECT quote_ident(n.nspname) FROM pg_extension AS e"
        " JOIN pg_namespace AS n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm'"
    ).fetchone()
    if found is not None:
        raw.execute(
            f"CREATE INDEX job_search ON job USING gin (lower(name) {found[0]}.gin_trgm_ops)"
        )


def _own_sql(name: str) -> bytes:
    return (files("muster.store") / "sql" / "postgres" / name).read_bytes()
