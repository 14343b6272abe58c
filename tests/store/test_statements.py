"""SQL by name, and the schema beside the domain that it stands for."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

from muster.domain.phase import FINISHED, Phase, StatisticsState
from muster.domain.placement import CardKind
from muster.domain.workload import PRIORITY_MAX, PRIORITY_MIN, WorkloadType
from muster.store.counting import HELD
from muster.store.statements import load_migrations, load_statements

NOUNS: Final = (
    "algorithms",
    "archive",
    "buckets",
    "bulk",
    "catalogue_ids",
    "check",
    "counting",
    "experiments",
    "grants",
    "history",
    "identity",
    "ids",
    "jobs",
    "keyblocks",
    "leases",
    "metrics",
    "models",
    "moves",
    "nameparts",
    "networks",
    "notebooks",
    "pool_events",
    "pool_nodes",
    "pools",
    "purging",
    "search",
    "services",
    "staging",
    "submissions",
    "tags",
    "timeline",
    "visualizations",
    "workloads",
    "workspaces",
)
SCHEMA: Final = "\n".join(script for _, script in load_migrations())

# store/counting.py and store/recount.py put the names of these together; check.sql is run whole.
COUNTED: Final = ("tally", "version_total", "job_total", "id_block", "workspace_use")
PUT_TOGETHER: Final = {
    *(f"{verb}_{table}" for verb in ("add_to", "insert", "recount") for table in COUNTED),
    *(f"list_{table}s" for table in COUNTED),
    # Recounted by store/archive.py: half of it is packed.
    *(f"{verb}_snapshot_use" for verb in ("add_to", "insert")),
    # By store/keyblocks.py, which recounts, too; of either list.
    *(f"{verb}_key_block" for verb in ("add_to", "insert")),
    *(
        f"{verb}_{table}s"
        for table in ("job", "version")
        for verb in (
            *("insert_mark_of", "insert_live", "keep_gone"),
            *("list_next", "list_unsettled", "list_ended", "find_ended"),
        )
    ),
}


def source() -> str:
    root = Path(str(files("muster")))
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(root.rglob("*.py")))


def test_every_file_of_statements_is_known_here() -> None:
    folder = files("muster.store") / "sql"

    assert sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql")) == [
        f"{noun}.sql" for noun in NOUNS
    ]


@pytest.mark.parametrize("noun", NOUNS)
def test_statements_load_without_their_comments(noun: str) -> None:
    for name, statement in load_statements(noun).items():
        assert statement, name
        assert "--" not in statement
        assert ";" not in statement


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun != "check"])
def test_every_statement_is_used(noun: str) -> None:
    text = source()

    unused = [
        name
        for name in load_statements(noun)
        if f'"{name}"' not in text and name not in PUT_TOGETHER
    ]

    assert unused == []


def in_list(text: str) -> set[str]:
    return set(re.findall(r"'([^']*)'", text))


def checked(column: str) -> set[str]:
    """What a CHECK of the schema allows in a column."""
    found = re.search(rf"CHECK \({column} IN \(([^)]*)\)\)", SCHEMA)
    assert found is not None
    return in_list(found[1])


def test_the_schema_allows_exactly_the_phases_types_and_kinds_that_there_are() -> None:
    assert checked("phase") == set(Phase)
    assert checked("type") == set(WorkloadType)
    assert checked("card_kind") == set(CardKind)
    assert f"priority BETWEEN {PRIORITY_MIN} AND {PRIORITY_MAX}" in SCHEMA


def test_the_schema_wants_an_end_in_exactly_the_finished_phases() -> None:
    found = re.search(r"\(ended_at_ms IS NOT NULL\) = \(phase IN \(([^)]*)\)\)", SCHEMA)

    assert found is not None
    assert in_list(found[1]) == FINISHED


def test_what_the_reconciler_reads_is_every_phase_that_may_change_but_the_queue() -> None:
    statements = load_statements("workloads")
    active = re.search(r"phase IN \(([^)]*)\)", statements["list_active"])
    index = re.search(r"workload_active.*\n\s+WHERE phase IN \(([^)]*)\)", SCHEMA)

    assert active is not None
    assert index is not None
    assert in_list(active[1]) == set(Phase) - FINISHED - {Phase.QUEUED}
    assert in_list(index[1]) == in_list(active[1])
    [which] = re.findall(r"WHERE phase IN.*", statements["list_active"])
    assert re.findall(r"WHERE phase IN.*", statements["list_active_revisions"]) == [which]


def test_the_head_of_a_queue_is_the_same_whether_it_is_known_in_part_or_not() -> None:
    statements = load_statements("workloads")
    [which] = re.findall(r"FROM workload.*", statements["list_queue"], re.DOTALL)

    assert "ORDER BY priority DESC, id" in which
    assert statements["list_queue_revisions"].endswith(which)


def test_what_may_be_purged_is_all_that_nothing_can_run_for() -> None:
    kept = re.search(r"phase NOT IN \(([^)]*)\)", load_statements("purging")["list_deleted"])

    assert kept is not None
    assert in_list(kept[1]) == set(Phase) - FINISHED - {Phase.LOST}


def test_a_tally_has_a_column_for_each_state_and_each_resource_in_their_order() -> None:
    columns = [*(state.lower() for state in StatisticsState), *(f"held_{name}" for name in HELD)]

    inserted = load_statements("counting")["insert_tally"]

    assert re.findall(r"\w+", inserted.split("SELECT")[0])[3:-3] == columns


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _ in load_migrations()] == list(range(1, len(load_migrations()) + 1))
