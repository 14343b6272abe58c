"""A notebook in a real browser: its page opens, a cell runs, and the answer is seen."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.server import Remote, running_server, wait_for
from tests.end_to_end.test_sdk_notebooks import FLAVOR, delete_all
from tests.required import import_needed

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def remote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    with running_server(tmp_path_factory.mktemp("browser")) as remote:
        yield remote
        delete_all(remote)


def running_notebook(remote: Remote) -> dict[str, Any]:
    project = remote.project
    [image] = project.get("/images", type="BUILD_IN")["data"]
    made = project.post(
        "/notebooks",
        name="seen",
        image_id=image["id"],
        flavor=FLAVOR,
        volume={"category": "EFS", "ownership": "MANAGED"},
    )

    def up() -> dict[str, Any] | None:
        shown: dict[str, Any] = project.get(f"/notebooks/{made['id']}")
        assert shown["status"] in ("CREATING", "RUNNING"), shown["fail_reason"]
        return shown if shown["status"] == "RUNNING" else None

    return wait_for(up, seconds=60)


def test_a_cell_is_typed_run_and_answered(remote: Remote, page: Any) -> None:
    import_needed("jupyterlab", "jupyterlab")
    shown = running_notebook(remote)

    page.goto(f"{shown['url']}?token={shown['token']}")
    assert shown["token"] not in page.url
    page.locator(".jp-LauncherCard[data-category='Notebook']").first.click()
    # Before its kernel is there, JupyterLab drops what it is asked to run.
    page.locator(".jp-StatusBar-TextItem", has_text="| Idle").first.wait_for()
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").first.click()
    page.keyboard.type("print('the answer is', 6 * 7)")
    page.keyboard.press("Shift+Enter")

    answer = page.locator(".jp-OutputArea-output", has_text="the answer is 42")
    answer.first.wait_for()
    assert answer.first.inner_text().strip() == "the answer is 42"
    files = Path(remote.data / "notebooks" / shown["id"].replace("-", "") / "work")
    assert list(files.glob("Untitled*.ipynb"))
