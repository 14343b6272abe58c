"""`muster job`: submit, list, show, stop, delete, and read the logs."""

import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from muster.cli.config import Wishes, new_config, next_config, read_parameters
from muster.cli.connection import connect
from muster.cli.find import find_job, find_version
from muster.cli.output import (
    ask,
    duration,
    examples,
    note,
    print_facts,
    print_json,
    print_table,
    status_text,
    when,
    yes_option,
)
from muster.cli.status import (
    COMPLETED,
    FINISHED_STATUSES,
    QUEUED,
    STATUS_NAMES,
    codes_of,
    word_of,
)
from muster.cli.upload import NAME_MAX, Uploaded, new_job_name, read_code, upload

if TYPE_CHECKING:
    from muster.client.client import Client

FOLLOW_SECONDS: Final = 0.5  # how often a log that has not grown is looked at again
LIST_LIMIT: Final = 20
PAGE_MAX: Final = 1000
EXPLAINED_MAX: Final = 20  # jobs of a list that are told why they wait

json_option = click.option("--json", "as_json", is_flag=True, help="Print the server's answer.")
version_option = click.option(
    "--version",
    "version_text",
    metavar="VERSION",
    help="Its id or name (V0001).  [default: newest]",
)


@click.group()
def job() -> None:
    """Submit, list, stop and read jobs.

    A JOB is named by its name or its id.
    """


@job.command(
    epilog=examples(
        "muster job submit train.py --arg epochs=20 --follow",
        "muster job submit project/ --boot train.py --pool digits --workers 2",
        "muster job submit train.py --job train-3f47 --arg epochs=40   # one more version",
    )
)
@click.argument("path", type=click.Path(exists=True, path_type=Path), metavar="FILE_OR_FOLDER")
@click.option("--boot", metavar="FILE", help="Which file of the folder starts the job.")
@click.option("--name", help="Name of the new job.  [default: after the file]")
@click.option(
    "--arg", "args", metavar="KEY=VALUE", multiple=True, help="Hyperparameter; may be repeated."
)
@click.option("--flavor", metavar="CODE", help="Shape of one worker.  [default: the smallest]")
@click.option("--pool", metavar="ID_OR_NAME", help="Where it runs.  [default: the public pool]")
@click.option("--workers", type=click.IntRange(min=1), help="How many tasks.  [default: 1]")
@click.option("--engine", metavar="NAME_OR_ID", help="Interpreter.  [default: python]")
@click.option("--data", metavar="URL", help="Input folder: /BUCKET/FOLDER/.")
@click.option("--output", metavar="URL", help="Output folder: /BUCKET/FOLDER/.")
@click.option("--desc", default="", help="Description of the job.")
@click.option(
    "--job",
    "job_text",
    metavar="NAME_OR_ID",
    help="Add a version to this job; what is not given stays as in its newest version.",
)
@click.option(
    "--follow", is_flag=True, help="Print the log until it has ended; exit 1 if it failed."
)
@json_option
@click.pass_context
def submit(
    context: click.Context,
    *,
    path: Path,
    boot: str | None,
    name: str | None,
    args: Sequence[str],
    flavor: str | None,
    pool: str | None,
    workers: int | None,
    engine: str | None,
    data: str | None,
    output: str | None,
    desc: str,
    job_text: str | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Upload a file or a folder and run it as a job."""
    if name is not None and job_text is not None:
        raise click.UsageError("--name is for a new job; --job adds a version to one there is.")
    if name is not None and not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{NAME_MAX}}}", name):
        raise click.UsageError(f"--name must be 1 to {NAME_MAX} of letters, digits, '-' and '_'.")
    wishes = Wishes(
        parameters=read_parameters(args),
        flavor=flavor,
        pool=pool,
        workers=workers,
        engine=engine,
        data=data,
        output=output,
    )
    code = read_code(path, boot)
    with connect(context) as client:
        before = None if job_text is None else find_job(client, job_text)
        job_name = before["job_name"] if before else name or new_job_name(code)
        config = (
            next_config(client, wishes, find_version(before, None))
            if before
            else new_config(client, wishes, job_name)
        )
        uploaded = upload(client, code, job_name=job_name, now=datetime.now(UTC))
        config |= {"app_url": uploaded.app_url, "boot_file_url": uploaded.boot_file_url}
        answer = _submit(client, before, job_name, config, desc, uploaded)
        if as_json:
            print_json(answer)
        else:
            note(
                f"Submitted {answer['job_name']} {answer['version_name']} (job {answer['job_id']})."
                + ("" if follow else f" Follow it: muster job logs {answer['job_name']} -f")
            )
        if follow:
            log_file = f"{answer['job_name']}.0"
            _follow(client, answer["job_id"], answer["version_id"], log_file)
            version = client.get_version(answer["job_id"], answer["version_id"])
            if version["status"] != COMPLETED:
                raise click.ClickException(_how_it_ended(version))


def _how_it_ended(version: dict[str, Any]) -> str:
    told = f"{version['job_name']} {version['version_name']} ended {word_of(version['status'])}"
    if message := version.get("status_message"):  # our own extension
        return f"{told}: {message}"
    return f"{told}. `muster job show {version['job_name']}` tells more."


def _submit(
    client: "Client",
    before: dict[str, Any] | None,
    job_name: str,
    config: dict[str, Any],
    description: str,
    uploaded: Uploaded,
) -> dict[str, Any]:
    """Submit; where the server refuses, the code that was uploaded for it goes again."""
    from muster.client.errors import ApiError

    try:
        if before is not None:
            return client.submit_version(before["job_id"], config, description=description)
        return client.submit_job(job_name, config, description=description)
    except ApiError:
        uploaded.remove(client)
        raise


SORT_KEYS: Final = ("job_name", "job_desc", "status", "duration", "version_count", "create_time")


@job.command(
    "list",
    epilog=examples(
        "muster job list --status running --status queued",
        "muster job list --search train --sort job_name --order asc --all",
        "muster job list --status 7 --json",
    ),
)
@click.option(
    "--status",
    "statuses",
    multiple=True,
    metavar="NAME_OR_CODE",
    help="Only jobs whose newest version is so; may be repeated.",
)
@click.option("--search", metavar="TEXT", help="Only jobs with this in their name.")
@click.option("--sort", type=click.Choice(SORT_KEYS), default="create_time", show_default=True)
@click.option("--order", type=click.Choice(["asc", "desc"]), help="[default: asc; desc for times]")
@click.option("--limit", type=click.IntRange(1, PAGE_MAX), default=LIST_LIMIT, show_default=True)
@click.option("--all", "is_all", is_flag=True, help="All of them, however many.")
@json_option
@click.pass_context
def list_(
    context: click.Context,
    *,
    statuses: Sequence[str],
    search: str | None,
    sort: str,
    order: str | None,
    limit: int,
    is_all: bool,
    as_json: bool,
) -> None:
    """List jobs, the newest first, each with the status of its newest version."""
    try:
        codes = codes_of(statuses)
    except KeyError as error:
        raise click.UsageError(
            f"--status {error.args[0]!r} is none of {', '.join(STATUS_NAMES)}, nor a code."
        ) from error
    order = order or ("desc" if sort in {"create_time", "duration"} else "asc")
    with connect(context) as client:
        answer = client.list_jobs(
            status=codes,
            search=search,
            sort_by=sort,
            order=order,
            page=1,
            per_page=PAGE_MAX if is_all else limit,
        )
        jobs = answer["jobs"]
        page = 1
        while is_all and len(jobs) < answer["job_total_count"]:
            page += 1
            more = client.list_jobs(
                status=codes,
                search=search,
                sort_by=sort,
                order=order,
                page=page,
                per_page=PAGE_MAX,
            )["jobs"]
            if not more:
                break
            jobs.extend(more)
        reasons = {} if as_json else _why_they_wait(client, jobs)
    if as_json:
        print_json(answer)
        return
    print_jobs(jobs, reasons)
    if len(jobs) < answer["job_total_count"]:
        note(f"{len(jobs)} of {answer['job_total_count']} jobs; --all shows every one.")


def _why_they_wait(client: "Client", jobs: Sequence[dict[str, Any]]) -> dict[int, str]:
    """By job; of the first few only: each costs a request."""
    queued = [entry for entry in jobs if entry["status"] == QUEUED][:EXPLAINED_MAX]
    reasons = {}
    for entry in queued:
        version = client.get_version(entry["job_id"], entry["version_id"])
        if waiting := version.get("waiting"):
            reasons[entry["job_id"]] = f"{waiting['position']}: {waiting['reason']}"
    return reasons


def print_jobs(jobs: Sequence[dict[str, Any]], reasons: Mapping[int, str] | None = None) -> None:
    """`reasons`: why jobs wait, by id; without any, there is no column for them."""
    print_table(
        (
            "JOB",
            "NAME",
            "STATUS",
            *(["WAITS"] if reasons else []),
            "VERSIONS",
            "CREATED",
            "DURATION",
            "DESCRIPTION",
        ),
        (
            (
                entry["job_id"],
                entry["job_name"],
                status_text(entry["status"]),
                *([reasons.get(entry["job_id"])] if reasons else []),
                entry["version_count"],
                when(entry["create_time"]),
                duration(entry["duration"]),
                entry["job_desc"],
            )
            for entry in jobs
        ),
        right=("JOB", "VERSIONS", "DURATION"),
    )


@job.command(
    epilog=examples("muster job show train-3f47", "muster job show 12 --version V0002 --json")
)
@click.argument("job_text", metavar="JOB")
@version_option
@json_option
@click.pass_context
def show(context: click.Context, *, job_text: str, version_text: str | None, as_json: bool) -> None:
    """Show a job, its versions, and one of them in full."""
    with connect(context) as client:
        found = find_job(client, job_text)
        if as_json and version_text is None:
            print_json(found)
            return
        if not found["versions"]:
            print_facts([("job", found["job_name"]), ("versions", 0)])
            return
        version_id = find_version(found, version_text)["version_id"]
        version = client.get_version(found["job_id"], version_id)
    if as_json:
        print_json(version)
        return
    print_facts(
        [
            ("job", f"{found['job_name']} (id {found['job_id']})"),
            ("description", found["job_desc"]),
            ("version", f"{version['version_name']} (id {version['version_id']})"),
            ("status", status_text(version["status"])),
            ("reason", version.get("status_message")),
            *_why_it_waits(version.get("waiting")),
            ("created", when(version["create_time"])),
            ("started", when(version["start_time"])),
            ("duration", duration(version["duration"])),
            ("pool", version.get("pool_id") or "public"),
            ("flavor", version.get("spec_code")),
            ("workers", version["worker_server_num"]),
            ("engine", f"{version['engine_name']} {version['engine_version']}"),
            ("code", version["app_url"]),
            ("boot file", version["boot_file_url"]),
            ("data", version["data_url"]),
            ("output", version["train_url"]),
            (
                "arguments",
                " ".join(f"{item['label']}={item['value']}" for item in version["parameter"] or []),
            ),
        ]
    )
    if len(found["versions"]) > 1:
        click.echo()
        print_table(
            ("ID", "VERSION", "STATUS", "CREATED", "DURATION"),
            (
                (
                    entry["version_id"],
                    entry["version_name"],
                    status_text(entry["status"]),
                    when(entry["create_time"]),
                    duration(entry["duration"]),
                )
                for entry in found["versions"]
            ),
            right=("ID", "DURATION"),
        )


def _why_it_waits(waiting: dict[str, Any] | None) -> list[tuple[str, object]]:
    if waiting is None:
        return []
    starts_ms = waiting["predicted_start_time"]
    return [
        ("waits", waiting["message"]),
        ("place in queue", waiting["position"]),
        ("starts by", when(starts_ms) if starts_ms else "not known"),
    ]


@job.command(epilog=examples("muster job stop train-3f47", "muster job stop 12 --version V0001"))
@click.argument("job_text", metavar="JOB")
@version_option
@json_option
@click.pass_context
def stop(context: click.Context, *, job_text: str, version_text: str | None, as_json: bool) -> None:
    """Stop a version of a job, whether it runs or waits."""
    with connect(context) as client:
        found = find_job(client, job_text)
        version = find_version(found, version_text)
        answer = client.stop_version(found["job_id"], version["version_id"])
    if as_json:
        print_json(answer)
    else:
        note(f"Stopping {found['job_name']} {version['version_name']}.")


@job.command(
    epilog=examples(
        "muster job delete train-3f47 train-77aa",
        "muster job delete 12 --version V0001 --yes",
    )
)
@click.argument("job_texts", metavar="JOB...", nargs=-1, required=True)
@click.option(
    "--version", "version_text", metavar="VERSION", help="Only this version, by id or name (V0001)."
)
@yes_option
@click.pass_context
def delete(
    context: click.Context, *, job_texts: Sequence[str], version_text: str | None, is_sure: bool
) -> None:
    """Delete jobs with their versions and logs. What still runs is stopped first."""
    if version_text is not None and len(job_texts) > 1:
        raise click.UsageError("--version goes with one job.")
    with connect(context) as client:
        found = [find_job(client, text) for text in job_texts]
        version = None if version_text is None else find_version(found[0], version_text)
        names = ", ".join(entry["job_name"] for entry in found)
        what = names if version is None else f"{names} {version['version_name']}"
        ask(f"Delete {what}?", is_sure=is_sure)
        if version is not None:
            client.delete_version(found[0]["job_id"], version["version_id"])
        else:
            for entry in found:
                client.delete_job(entry["job_id"])
    note(f"Deleted {what}.")


@job.command(
    epilog=examples(
        "muster job logs train-3f47 -f",
        "muster job logs 12 --version V0001 --task 1 > worker-1.log",
    )
)
@click.argument("job_text", metavar="JOB")
@version_option
@click.option("--task", type=click.IntRange(min=0), help="Which worker.  [default: 0]")
@click.option("-f", "--follow", is_flag=True, help="Go on until the version has ended.")
@click.pass_context
def logs(
    context: click.Context,
    *,
    job_text: str,
    version_text: str | None,
    task: int | None,
    follow: bool,
) -> None:
    """Print a log exactly as the job wrote it."""
    with connect(context) as client:
        found = find_job(client, job_text)
        version = find_version(found, version_text)
        job_id, version_id = found["job_id"], version["version_id"]
        if task is None and version["worker_server_num"] > 1:
            note(f"This is task 0 of {version['worker_server_num']}; --task N shows another.")
        log_file = _log_file(client, job_id, version_id, task or 0)
        if log_file is None:
            raise click.ClickException(
                f"{found['job_name']} {version['version_name']} has no task {task}; its tasks are 0"
                f" to {version['worker_server_num'] - 1}."
            )
        if follow:
            _follow(client, job_id, version_id, log_file)
        elif _print_from(client, job_id, version_id, log_file, 0) is None:
            raise click.ClickException(
                f"{found['job_name']} {version['version_name']} is {word_of(version['status'])} and"
                f" has no log of task {task or 0} yet. With -f this command waits for it."
            )


def _log_file(client: "Client", job_id: int, version_id: int, task: int) -> str | None:
    """The name of one task's log. None: there is no such task."""
    names = client.list_log_files(job_id, version_id)
    return next((name for name in names if name.endswith(f".{task}")), None)


def _follow(client: "Client", job_id: int, version_id: int, log_file: str) -> None:
    """Print a log as it grows, until its version has ended and all of it is printed."""
    offset = 0
    while True:
        # Asked before the log is read: what is written before the end is read after it.
        status = client.get_version(job_id, version_id)["status"]
        offset = _print_from(client, job_id, version_id, log_file, offset) or 0
        if status in FINISHED_STATUSES:
            return
        time.sleep(FOLLOW_SECONDS)


def _print_from(
    client: "Client", job_id: int, version_id: int, log_file: str, offset: int
) -> int | None:
    """Print a log from `offset` to where it ends now, and say where that is; None: no log yet."""
    out = sys.stdout.buffer
    while chunk := client.read_log(job_id, version_id, log_file, offset=offset):
        out.write(chunk)
        out.flush()
        offset += len(chunk)
    return None if chunk is None else offset
