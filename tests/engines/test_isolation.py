"""Jobs of each project under a user id of their own; as root."""

import asyncio
import pwd
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from muster.engines import owners
from muster.engines.isolation import Isolation, Kind
from muster.engines.owners import (
    USER_FIRST,
    Users,
    choose_user,
    hand_over,
    make_readable,
    take_back,
)
from muster.engines.probe import Grounds, find_isolation
from tests.engines.contract import EngineContract, ServingContract
from tests.engines.isolating import (
    ONE,
    OTHER,
    Data,
    IsolatedBench,
    IsolationContract,
    bench,
    data,
    remove_all,
    require_root,
    temporary_places,
)
from tests.engines.unprivileged import run_unprivileged
from tests.required import is_missing

__all__ = ["bench", "data"]  # fixtures

pytestmark = pytest.mark.asyncio


@pytest.fixture(scope="module", autouse=True)
def _is_root() -> None:
    require_root()


@pytest.fixture(scope="module")
def isolation(data: Data) -> Isolation:
    found = find_isolation(
        "auto", Grounds(jobs_folder=data.jobs, hidden=(data.folder,), hidden_files=())
    )
    if found.kind is not Kind.USERS:
        is_missing("bubblewrap", found.trouble)
    return found


class TestIsolation(IsolationContract):
    pass


class TestIsolatedEngine(EngineContract):
    pass


class TestIsolatedServing(ServingContract):
    pass


async def user_of(bench: IsolatedBench, project: str) -> int:
    return int(await bench.run("tell(os.getuid())", project=project))


async def test_each_project_has_a_user_of_its_own_for_good(bench: IsolatedBench) -> None:
    first = [await user_of(bench, project) for project in (ONE, OTHER, ONE)]
    bench.isolation = replace(
        bench.isolation, users=Users(bench.jobs_folder / ".users.json")
    )  # as a server that has just started
    await bench.restart()

    again = [await user_of(bench, project) for project in (ONE, OTHER, ONE)]

    assert first == again
    assert first[0] == first[2] != first[1]
    assert min(first) >= USER_FIRST


async def test_a_job_has_no_rights_but_its_users(bench: IsolatedBench) -> None:
    source = """
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
tell([os.getgroups(), status["NoNewPrivs"].strip(), int(status["CapEff"], 16),
      len({*os.getresuid(), *os.getresgid()}), attempt(os.setuid, 0)])
"""
    assert await bench.run(source) == [[], "1", 0, 1, "PermissionError"]


async def test_a_job_has_a_name_and_a_home(bench: IsolatedBench) -> None:
    source = """
import getpass, pwd
entry = pwd.getpwuid(os.getuid())
is_home = entry.pw_dir == os.environ["HOME"]
tell([getpass.getuser(), entry.pw_name, is_home, pwd.getpwnam("root").pw_uid])
"""
    assert await bench.run(source) == ["job", "job", True, 0]


async def test_an_input_that_only_root_may_read_is_made_readable(bench: IsolatedBench) -> None:
    folder = bench.data.folder / "objects" / "closed"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "file").write_text("x")
    (folder / "deep" / "file").chmod(0o600)
    (folder / "deep").chmod(0o700)
    folder.chmod(0o700)
    (folder / "outside").symlink_to(bench.data.folder / "muster.db")
    (bench.data.folder / "muster.db").chmod(0o600)

    told = await bench.run(
        "tell([look(f'{here[0]}/deep/file'), look(f'{here[0]}/outside')])", folder, reads=(folder,)
    )

    assert told == ["x", "FileNotFoundError"]
    assert (bench.data.folder / "muster.db").stat().st_mode & 0o777 == 0o600


async def test_temporary_files_are_where_the_machine_has_them(bench: IsolatedBench) -> None:
    """Programs meet there, and hand on what somebody else is to find."""
    places = temporary_places(bench)
    try:
        await bench.run("tell([write(path) for path in here])", *places)
        again = await bench.run("tell([look(path) for path in here])", *places)
        found = await asyncio.to_thread(lambda: [Path(place).read_text() for place in places])
    finally:
        remove_all(places)

    assert again == found == ["mine"] * 3


async def test_only_processes_of_its_project_are_seen(bench: IsolatedBench) -> None:
    source = """
users = {os.stat(f"/proc/{name}").st_uid for name in os.listdir("/proc") if name.isdigit()}
tell(users == {os.getuid()})
"""
    if not bench.isolation.hides_processes:
        pytest.skip("this kernel cannot hide them")
    assert await bench.run(source)


FINDS = """
import sys
from pathlib import Path
from muster.engines.probe import Grounds, describe, find_isolation
data = Path(sys.argv[1])
print(describe(find_isolation("auto", Grounds(jobs_folder=data / "jobs", hidden=(data,)))))
"""


async def test_without_the_right_to_mount_it_says_why_jobs_are_not_isolated(tmp_path: Path) -> None:
    rights = ("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    if shutil.which(rights[0]) is None:
        pytest.skip("there is no setpriv to take the right away with")
    process = await asyncio.create_subprocess_exec(
        *rights, sys.executable, "-c", FINDS, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )

    said = (await process.communicate())[0].decode()

    assert said.startswith("Jobs are not isolated from this server: they run under its own user")
    assert "unshare: Operation not permitted" in said
    assert "CAP_SYS_ADMIN" in said
    assert list((tmp_path / "jobs").iterdir()) == []


async def test_without_rights_and_bubblewrap_it_says_what_would_help(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()

    code, said = run_unprivileged(
        ["-c", FINDS, str(folder)], folder=folder, environment={"PATH": "/nowhere"}
    )

    assert code == 0, said
    assert said.startswith("Jobs are not isolated from this server")
    assert "Install bubblewrap (the program bwrap), or run the server as root." in said


async def test_users_that_the_machine_knows_are_left_alone() -> None:
    first = choose_user("a", ())
    second = choose_user("a", (), lambda user: user == first)
    third = choose_user("a", {first, second})

    assert len({first, second, third}) == 3
    assert not any(owners.is_account(user) for user in (first, second, third))
    assert owners.is_account(pwd.getpwnam("root").pw_uid)


async def test_servers_that_take_turns_give_each_project_one_user(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    one, other = Users(file), Users(file)

    given = [one.of("a"), other.of("b"), one.of("c"), other.of("a"), one.of("b"), other.of("c")]

    assert given[:3] == [given[3], given[4], given[5]]
    assert len(set(given)) == 3
    assert [Users(file).of(project) for project in "abc"] == given[:3]


async def test_a_file_of_users_that_cannot_be_read_is_not_begun_anew(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    Users(file).of("a")
    known = file.read_bytes()
    file.write_bytes(known[:-3])

    with pytest.raises(OSError, match="cannot be read"):
        Users(file).of("b")

    assert file.read_bytes() == known[:-3]


async def test_what_is_handed_over_is_only_what_lies_in_the_folder(tmp_path: Path) -> None:
    folder, outside = tmp_path / "given", tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    outside.mkdir()
    for path in (folder / "deep" / "file", outside / "file", outside / "linked"):
        path.write_text("x")
    (folder / "hard").hardlink_to(outside / "linked")
    (folder / "soft").symlink_to(outside / "file")
    (folder / "elsewhere").symlink_to(outside)

    hand_over(folder, USER_FIRST)

    given = [folder, folder / "deep", folder / "deep" / "file", folder / "soft"]
    assert {path.lstat().st_uid for path in given} == {USER_FIRST}
    kept = [outside, outside / "file", outside / "linked", folder / "hard"]
    assert {path.lstat().st_uid for path in kept} == {0}


async def test_what_was_left_without_isolation_is_handed_over_later(tmp_path: Path) -> None:
    hand_over(tmp_path, USER_FIRST)
    take_back([tmp_path, tmp_path / "nowhere"])
    (tmp_path / "left").touch()

    hand_over(tmp_path, USER_FIRST)

    assert {path.stat().st_uid for path in (tmp_path, tmp_path / "left")} == {USER_FIRST}


async def test_making_readable_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "secret").touch(0o600)
    (tmp_path / "given").mkdir(mode=0o700)
    (tmp_path / "given" / "folder").symlink_to(tmp_path / "outside")
    (tmp_path / "given" / "file").symlink_to(tmp_path / "secret")

    make_readable(tmp_path / "given")

    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("outside", "secret", "given")]
    assert modes == [0o700, 0o600, 0o705]
