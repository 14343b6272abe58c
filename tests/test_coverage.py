"""docs/coverage.md says what is answered, and nothing else."""

import re
from pathlib import Path

from muster.api.routes import build_routes

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| ([A-Z]+) \| `([^`]+)` \| .* \| (works|not yet) \|$", re.MULTILINE)


def rows() -> dict[tuple[str, str], str]:
    text = (ROOT / "docs/coverage.md").read_text()
    return {(method, path): state for method, path, state in ROW.findall(text)}


def routes() -> set[tuple[str, str]]:
    return {(r.method, r.path.replace("...}", "}")) for r in build_routes(services=None)}  # type: ignore[arg-type]  # handlers are not called


def test_every_call_that_is_said_to_work_is_in_the_route_table() -> None:
    said_to_work = {call for call, state in rows().items() if state == "works"}

    assert said_to_work - routes() == set()


def test_every_route_is_on_the_page() -> None:
    said_to_work = {call for call, state in rows().items() if state == "works"}

    assert routes() - said_to_work == set()


def test_the_page_counts_itself_right() -> None:
    text = (ROOT / "docs/coverage.md").read_text()
    tiers = text[: text.index("## The server itself")]
    found = ROW.findall(tiers)
    working = [row for row in found if row[2] == "works"]

    assert f"{len(working)} of {len(found)} calls" in text
