"""Finding a notebook for a caller, and changing it where the caller may."""

from collections.abc import Callable

from muster.domain.notebook import Notebook
from muster.domain.permission import Permission
from muster.operations.caller import Caller, forbidden
from muster.operations.notebookstart import Notebooks
from muster.store import notebooks
from muster.store.transaction import Transaction


async def get_notebook(desk: Notebooks, caller: Caller, shown: str) -> Notebook:
    """By its id with or without hyphens; one where the caller may not enter is not there.

    Raises:
        NotebookUnknown: the project has none of that id.
    """
    uid = shown.replace("-", "").lower()
    found = await desk.database.read(notebooks.find_notebook, uid)
    is_there = found is not None and found.project_id == caller.project_id
    if found is None or not is_there or not caller.may_enter(found.workspace_id):
        raise notebooks.notebook_unknown(shown)
    return found


def may_open(caller: Caller, notebook: Notebook) -> bool:
    """Whether it may see the notebook's token, open it, and change it."""
    if caller.project_id != notebook.project_id:
        return False
    if caller.user_id == notebook.user_id:
        return caller.may(Permission.NOTEBOOK_WRITE, notebook.workspace_id)
    return caller.may(Permission.NOTEBOOK_MANAGE, notebook.workspace_id)


def check_may_change(caller: Caller, notebook: Notebook) -> None:
    if not may_open(caller, notebook):
        where = f"notebook {notebook.shown_id} of user {notebook.user_name!r}"
        role = caller.role_in(notebook.workspace_id)
        raise forbidden(caller, Permission.NOTEBOOK_MANAGE, role, where)


async def change_notebook(
    desk: Notebooks,
    caller: Caller,
    shown: str,
    change: Callable[[Transaction, Notebook], Notebook],
) -> Notebook:
    """Read it, change it and store it, in one transaction."""
    found = await get_notebook(desk, caller, shown)
    check_may_change(caller, found)

    def write(tx: Transaction) -> Notebook:
        fresh = notebooks.get_notebook(tx.connection, caller.project_id, found.uid)
        notebooks.update_notebook(tx, change(tx, fresh))
        return notebooks.get_notebook(tx.connection, caller.project_id, found.uid)

    return await desk.database.write(write)
