"""The pages hold what they name: links, folders, commands, settings, error codes, phases."""

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Final

import click
import pytest

from muster.cli.main import COMMANDS
from muster.domain import (
    algorithm,
    experiment,
    image,
    model,
    network,
    notebook,
    pool,
    service,
    tag,
    training,
    visualization,
    workspace,
)
from muster.domain.phase import Phase, view_of
from muster.objects.store import CODE_FILES_MAX
from muster.settings import Settings
from muster.store import grants

ROOT: Final = Path(__file__).parents[1]
PAGES: Final = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)
LINK: Final = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")
HEADING: Final = re.compile(r"^#+ (.*)$", re.MULTILINE)
COMMAND: Final = re.compile(r"(?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?muster ([a-z]+(?: [a-z]+)?)\b")
CODE: Final = re.compile(r"ModelArts\.\d+")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """How the headings of a page are linked to."""
    found = HEADING.findall(page.read_text())
    return {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in found}


def commands_of(page: Path) -> Iterator[str]:
    """What is shown to be typed: lines of blocks, behind their prompts if there are any, and words
    between backticks."""
    text = page.read_text()
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        lines = block.splitlines()
        prompted = [line[2:] for line in lines if line.startswith("$ ")]
        yield from prompted or lines
    yield from re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    yield from re.findall(r"`([^`\n]+)`", text)


def subcommands_of(page: Path) -> Iterator[str]:
    """Of `muster`: its name, and that of its own subcommand or argument if there is one."""
    for command in commands_of(page):
        if found := COMMAND.match(command):
            yield found[1]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached = {ROOT / "README.md"}
    while True:
        linked = {
            (page.parent / path).resolve()
            for page in reached
            for path, _ in LINK.findall(page.read_text())
            if path.endswith(".md")
        }
        if linked <= reached:
            break
        reached |= linked

    # The reasons are a folder, which the README links to as a whole.
    assert {page for page in PAGES if page.parent.name != "decisions"} <= reached


def subcommands(name: str) -> set[str]:
    """Empty for a command that has none."""
    module, _, attribute = COMMANDS[name].target.partition(":")
    command = getattr(import_module(module), attribute)
    return set(command.commands) if isinstance(command, click.Group) else set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_shown_is_there(page: Path) -> None:
    for line in subcommands_of(page):
        name, _, sub = line.partition(" ")
        assert name in COMMANDS, line
        assert not sub or not subcommands(name) or sub in subcommands(name), line


def test_every_command_is_shown_on_some_page() -> None:
    shown = {line.split()[0] for page in PAGES for line in subcommands_of(page)}

    assert set(COMMANDS) <= shown


def codes() -> set[str]:
    """Every code that an error of ours can have, in any of the APIs."""
    source = "".join(path.read_text() for path in (ROOT / "src/muster").rglob("*.py"))
    return set(CODE.findall(source))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_error_code_that_is_named_can_be_met(page: Path) -> None:
    assert set(CODE.findall(page.read_text())) <= codes()


def test_every_setting_stands_on_the_page_of_settings_or_on_that_of_its_part() -> None:
    text = "".join(
        (ROOT / "docs" / page).read_text()
        for page in ("settings.md", "object-storage.md", "slurm.md")
    )

    for setting in fields(Settings):
        assert setting.name == "data" or f"`{setting.name}`" in text, setting.name


def test_the_page_of_settings_tells_their_defaults() -> None:
    """Of those that are a number, a word or a choice of yes and no."""
    rows = re.findall(
        r"^\| `(\w+)`(?: \(flag\))? \| `?([\w.]+)`? \|",
        (ROOT / "docs/settings.md").read_text(),
        re.MULTILINE,
    )
    told = dict(rows)
    defaults = {each.name: each.default for each in fields(Settings)}

    assert len(told) >= 15
    for name, value in told.items():
        default = defaults[name]
        expected = str(default).lower() if isinstance(default, bool) else f"{default}"
        assert value == expected.removesuffix(".0"), name


LIMITS: Final = {
    "algorithms": algorithm.ALGORITHMS_MAX,
    "authorizations": grants.GRANTS_MAX,
    "experiments": experiment.EXPERIMENTS_MAX,
    "images that were registered or saved": image.IMAGES_MAX,
    "models": model.MODELS_MAX,
    "networks": network.NETWORKS_MAX,
    "notebooks": notebook.NOTEBOOKS_MAX,
    "services": service.SERVICES_MAX,
    "visualization jobs": visualization.VISUALIZATIONS_MAX,
    "workspaces": workspace.WORKSPACES_MAX,
    "workers of a training job": training.WORKERS_MAX,
    "files of a code folder": CODE_FILES_MAX,
    "tags": tag.TAGS_MAX,
    "nodes of one flavor in a pool": pool.NODES_MAX,
    "flavors of a pool": pool.LINES_MAX,
    "instances of a part of a service": service.INSTANCES_MAX,
    "parts of a service": service.CONFIGS_MAX,
}


@pytest.mark.parametrize(("what", "most"), LIMITS.items())
def test_the_page_of_settings_tells_how_many_there_may_be(what: str, most: int) -> None:
    assert f"\n| {what} | {most:,}" in (ROOT / "docs/settings.md").read_text()


def test_the_architecture_names_every_folder_and_every_module_beside_them() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    source = ROOT / "src/muster"

    for path in source.rglob("*"):
        if path.is_dir() and path.name != "__pycache__":
            assert f"{path.name}/" in text, path
    for path in source.glob("[!_]*.py"):
        assert path.name in text, path


def test_the_architecture_tells_of_every_folder_what_it_imports() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \| .* \| ([\w,; ]+) \|$", text, re.MULTILINE)
    told = {name: set(re.findall(r"\w+", imports)) | {"domain"} for name, imports in rows}
    parts = {*told, "server"}

    for name, allowed in told.items():
        source = "".join(path.read_text() for path in (ROOT / "src/muster" / name).rglob("*.py"))
        imported = set(re.findall(r"^\s*(?:from|import) muster\.(\w+)", source, re.MULTILINE))
        assert imported & parts - {name} <= allowed, name
    assert {path.name for path in (ROOT / "src/muster").glob("[!_]*/")} <= {*told}


def test_the_modules_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    there = {path.name for path in (ROOT / "src/muster").rglob("*.py")} | {"x.py"}

    named = set(re.findall(r"`(?:[\w/]*/)?(\w+\.py)`", text))

    assert len(named) > 30
    assert named <= there


def test_the_architecture_shows_every_phase_as_the_apis_do() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\| (\w+) \| (\d+) \| (\w+) \|", text, re.MULTILINE)

    assert {name: (int(code), state) for name, code, state in rows} == {
        phase.value: (view_of(phase).v1_status, view_of(phase).statistics.value) for phase in Phase
    }
