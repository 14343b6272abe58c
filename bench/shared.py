"""Databases of PostgreSQL to measure on: one for each size, beside the one that is named."""

import hashlib
from urllib.parse import urlsplit

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict


def address_beside(url: str, name: str) -> str:
    """Of another database on the same server."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/{name}?{parts.query}"


def mark_of(url: str) -> str:
    """Tells servers apart, in names of folders."""
    parts = conninfo_to_dict(url)
    where = f"{parts.get('host')}:{parts.get('port')}"
    return hashlib.sha256(where.encode()).hexdigest()[:8]


def exists(url: str, name: str) -> bool:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
        return found.fetchone() is not None


def make_empty(url: str, name: str) -> None:
    """In the place of what may be left there. The user must be allowed to."""
    with psycopg.connect(url, autocommit=True) as connection:
        given = sql.Identifier(name)
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(given))
        connection.execute(sql.SQL("CREATE DATABASE {}").format(given))


def settle(url: str) -> None:
    """Do at once what PostgreSQL does by itself some minutes after much was written."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
