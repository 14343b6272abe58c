"""docs/coverage.md says what is answered, and nothing else."""

import re
from pathlib import Path
from typing import Final

import pytest

from muster.api.routes import build_routes

NOT_OFFERED: Final = 501

ROOT = Path(__file__).parent.parent
ROW = re.compile(
    r"^\| ([A-Z]+) \| `([^`]+)` \| .* \| (works|not yet|answers 501) \|$", re.MULTILINE
)


def rows() -> dict[tuple[str, str], str]:
    text = (ROOT / "docs/coverage.md").read_text()
    return {(method, path): state for method, path, state in ROW.findall(text)}


def routes(*, offered: bool) -> set[tuple[str, str]]:
    table = build_routes(services=None)  # type: ignore[arg-type]  # handlers are not called
    return {
        (route.method, route.path.replace("...}", "}"))
        for route in table
        if (route.status != NOT_OFFERED) == offered
    }


@pytest.mark.parametrize(("state", "offered"), [("works", True), ("answers 501", False)])
def test_the_page_says_of_every_call_what_the_route_table_does(state: str, offered: bool) -> None:
    said = {call for call, said in rows().items() if said == state}

    assert said == routes(offered=offered)


def test_the_page_counts_itself_right() -> None:
    text = (ROOT / "docs/coverage.md").read_text()
    tiers = text[: text.index("## The server itself")]
    found = ROW.findall(tiers)
    working = [row for row in found if row[2] == "works"]

    assert f"{len(working)} of {len(found)} calls" in text
