"""One measured figure, and what it is held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    what: str
    value: float
    unit: str
    how: str
    rows: int | None = None  # versions stored while it was measured; None: it hangs on none
    at_least: float | None = None
    at_most: float | None = None

    @property
    def is_met(self) -> bool | None:
        """None where nothing is wanted of it."""
        if self.at_least is None and self.at_most is None:
            return None
        return (self.at_least is None or self.value >= self.at_least) and (
            self.at_most is None or self.value <= self.at_most
        )

    @property
    def verdict(self) -> str:
        return {True: "met", False: "NOT MET", None: ""}[self.is_met]

    @property
    def shown(self) -> str:
        number = f"{self.value:,.3g}" if abs(self.value) < 100 else f"{self.value:,.0f}"
        return f"{number} {self.unit}".rstrip()

    @property
    def budget(self) -> str:
        if self.at_least is not None:
            return f"≥ {self.at_least:,g} {self.unit}".rstrip()
        return f"≤ {self.at_most:,g} {self.unit}".rstrip() if self.at_most is not None else ""

    def as_json(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "rows": self.rows,
            "value": self.value,
            "unit": self.unit,
            "how": self.how,
            "at_least": self.at_least,
            "at_most": self.at_most,
            "is_met": self.is_met,
        }


def shown_rows(rows: int | None) -> str:
    """1000 is "1k"."""
    if rows is None:
        return ""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if rows >= size:
            return f"{rows / size:g}{letter}"
    return str(rows)


def flatness(what: str, values: Sequence[float], *, sizes: Sequence[int], at_most: float) -> Figure:
    """How far the slowest size lies below the fastest, in percent of the fastest."""
    return Figure(
        what=f"{what}: flat over all sizes within",
        value=100 * (1 - min(values) / max(values)),
        unit="%",
        how="slowest size against the fastest, " + " / ".join(shown_rows(size) for size in sizes),
        at_most=at_most,
    )
