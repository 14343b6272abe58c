"""SQL by name: each statement stands in `sql/<noun>.sql` under `-- name:` with its reason."""

import re
from collections.abc import Mapping
from importlib.resources import files

_NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def load_statements(noun: str) -> Mapping[str, str]:
    """The statements of `sql/<noun>.sql`, by name, without their comments."""
    text = (files("muster.store") / "sql" / f"{noun}.sql").read_text(encoding="utf-8")
    _, *parts = _NAME.split(text)
    return {
        name: "\n".join(line for line in body.splitlines() if not line.startswith("--")).strip()
        for name, body in zip(parts[::2], parts[1::2], strict=True)
    }


def load_migrations(own: str = "") -> list[tuple[int, str]]:
    """(number, script) of every migration, ascending from 1.

    Args:
        own: the folder of a database that has some of them in its own way, `postgres`.
    """
    sql = files("muster.store") / "sql"
    named = {entry.name: entry for entry in (sql / "migrations").iterdir()}
    if own:
        named |= {entry.name: entry for entry in (sql / own / "migrations").iterdir()}
    scripts = sorted(
        (int(name[:4]), entry.read_text(encoding="utf-8"))
        for name, entry in named.items()
        if name.endswith(".sql")
    )
    assert [number for number, _ in scripts] == list(range(1, len(scripts) + 1))
    return scripts
