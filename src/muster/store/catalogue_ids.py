"""The stable ids of flavors and AI engines."""

from collections.abc import Mapping, Sequence
from typing import Final

from muster.store.statements import load_statements
from muster.store.transaction import Transaction

SQL: Final = load_statements("catalogue_ids")


def flavor_ids(tx: Transaction, codes: Sequence[str]) -> Mapping[str, int]:
    """The id of each flavor code: the one it had before, or the next."""
    for code in codes:
        tx.execute(SQL["put_flavor"], {"code": code})
    return dict(tx.execute(SQL["list_flavor_ids"]).fetchall())


def ai_engine_ids(
    tx: Transaction, names: Sequence[tuple[str, str]]
) -> Mapping[tuple[str, str], int]:
    """The id of each (name, version): the one it had before, or the next."""
    for name, version in names:
        tx.execute(SQL["put_ai_engine"], {"name": name, "version": version})
    rows = tx.execute(SQL["list_ai_engine_ids"])
    return {(name, version): engine_id for name, version, engine_id in rows}
