"""The `muster` command: its subcommands, and what becomes of their errors."""

from collections.abc import Mapping
from importlib import import_module
from typing import Final, NamedTuple

import click

from muster import __version__
from muster.cli.output import examples
from muster.client.errors import ApiError, ClientError
from muster.domain.errors import MusterError

INTERRUPTED: Final = 130  # as a shell reports a command that was ended by Ctrl-C


class LazyCommand(NamedTuple):
    """A subcommand that is imported when it is asked for, and not to list it in `--help`."""

    target: str  # "module:attribute"
    summary: str


COMMANDS: Final[Mapping[str, LazyCommand]] = {
    "demo": LazyCommand("muster.cli.demo:demo", "Run real jobs on a server of their own."),
    "serve": LazyCommand("muster.cli.serve:serve", "Start a server."),
    "job": LazyCommand("muster.cli.job:job", "Submit, list, stop and read jobs."),
    "notebook": LazyCommand("muster.cli.notebook:notebook", "Make, open and stop notebooks."),
    "model": LazyCommand("muster.cli.model:model", "Keep models, for services to run."),
    "service": LazyCommand("muster.cli.service:service", "Deploy models and ask them."),
    "pool": LazyCommand("muster.cli.pool:pool", "Make, resize and watch pools."),
    "project": LazyCommand("muster.cli.accounts:project", "Make and list projects."),
    "user": LazyCommand("muster.cli.accounts:user", "Make users, and let them in or not."),
    "role": LazyCommand("muster.cli.role:role", "Say what users may do, and where."),
    "key": LazyCommand("muster.cli.accounts:key", "Make access keys, and disable them."),
    "check": LazyCommand("muster.cli.check:check", "Recount and verify the store."),
    "import": LazyCommand(
        "muster.cli.history_import:import_history", "Move in jobs that ran elsewhere."
    ),
    "export": LazyCommand("muster.cli.history_export:export_history", "Write all that has ended."),
    "backup": LazyCommand("muster.cli.backup:backup", "Copy the database of a running server."),
    "migrate": LazyCommand("muster.cli.backup:migrate", "Bring a data folder up to date."),
}

# What to do next, where the server's message alone does not say it.
_NEXT_STEPS: Final[Mapping[str, str]] = {
    "ModelArts.0103": "Choose another name, or add a version to that job with --job.",
    "ModelArts.0206": "Are the credentials those of this server?",
    "ModelArts.0208": "Is the clock of this machine right?",
    "ModelArts.0210": "The credentials are those of another project.",
    "ModelArts.2775": "`muster job list` shows what there is.",
    "ModelArts.3001": "`muster model list` shows what there is.",
    "ModelArts.3502": "`muster service list` shows what there is.",
    "ModelArts.6309": "`muster notebook list` shows what there is.",
    "ModelArts.2793": "`muster pool show POOL` tells how many nodes a pool has.",
    "ModelArts.2890": "`muster pool list` shows what there is.",
    "ModelArts.50015001": "`muster pool list` shows what there is.",
}


class Cli(click.Group):
    """A group that imports its commands late, and turns known errors into one line each."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        command = COMMANDS.get(cmd_name)
        if command is None:
            return None
        module, _, attribute = command.target.partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except (ClientError, MusterError) as error:
            raise click.ClickException(_told(error)) from error
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


def _told(error: ClientError | MusterError) -> str:
    """An error in one line: what happened, its code, what to do next."""
    if not isinstance(error, ApiError):
        return error.message
    message = " ".join(error.message.split()).rstrip(".")
    told = f"{message} ({error.code})." if error.code else f"{message}."
    if next_step := _NEXT_STEPS.get(error.code):
        return f"{told} {next_step}"
    if error.status >= 500:
        return f"{told} The server's log has more under request {error.request_id}."
    return told


@click.group(
    cls=Cli,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("muster demo", "muster serve", "muster job submit train.py --follow"),
)
@click.version_option(__version__, message="muster %(version)s")
def main() -> None:
    """Run, queue and count AI jobs on your own machines.

    Commands find the server by MUSTER_URL, MUSTER_PROJECT_ID, MUSTER_ACCESS_KEY and
    MUSTER_SECRET_KEY, else by the file in MUSTER_CREDENTIALS, else by the credentials.json that the
    server's first start leaves in its data folder (MUSTER_DATA).
    """
