"""Starts the TensorBoard of a visualization job; run as a program of its own, where that runs.

    PYTHON -I -S visualization.py ENVIRONMENTS_FOLDER [--make]

Where no interpreter is named, the environment is made first, once for all visualization jobs, as
that of notebooks is: ENVIRONMENTS_FOLDER/tensorboard-DIGEST, from the list of packages beside this
file. With --make it does no more than that.
It tells how far it is in `start.json` of the folder that it begins in: {"note", "failure"}.

In its environment it finds what it needs to know:

    MUSTER_VISUALIZATION_INTERPRETER  what has TensorBoard; empty: the environment that is made
    MUSTER_VISUALIZATION_FOLDER       the results; nothing is ever written there
    MUSTER_VISUALIZATION_PREFIX       the path that it is reached by, without a slash at the end
    MUSTER_HOST, MUSTER_PORT          where it has to listen
"""

# pathlib takes longer to import than all the rest.
# ruff: noqa: PTH100, PTH109, PTH120

import os
import sys

if __name__ == "__main__":
    # -I leaves out where muster is; what is imported of it stands alone as this does.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from muster.engines.notebook import CannotStartError, make_environment, tell

PACKAGES_FILE = "tensorboard-packages.txt"
RELOAD_SECONDS = 5  # between two looks for more results
TENSORBOARD = """
import sys
try:
    from tensorboard.main import run_main
except ModuleNotFoundError as error:
    sys.exit(f"muster: {sys.executable} has no TensorBoard ({error}); install it there")
run_main()
"""


def main(environments: str, *, only_makes_it: bool) -> None:
    here = os.getcwd()
    try:
        interpreter = os.environ["MUSTER_VISUALIZATION_INTERPRETER"]
        if not interpreter or only_makes_it:
            interpreter = make_environment(
                environments, here, name="tensorboard", list_file=PACKAGES_FILE
            )
        if only_makes_it:
            return
        tell(here, note="Starting TensorBoard")
        run_tensorboard(interpreter)
    except (CannotStartError, OSError) as error:
        tell(here, failure=str(error))
        sys.exit(f"muster: {error}")


def run_tensorboard(interpreter: str) -> None:
    """Become TensorBoard."""
    environment = dict(os.environ)
    del environment["MUSTER_VISUALIZATION_INTERPRETER"]
    settings = {
        "logdir": os.path.abspath(environment.pop("MUSTER_VISUALIZATION_FOLDER")),
        "path_prefix": environment.pop("MUSTER_VISUALIZATION_PREFIX"),
        "host": environment["MUSTER_HOST"],
        "port": environment["MUSTER_PORT"],
        "reload_interval": RELOAD_SECONDS,
        # Its other reader is a server of its own, on a port that anybody on the node may ask.
        "load_fast": "false",
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    os.execve(  # noqa: S606 - no shell
        interpreter, [interpreter, "-c", TENSORBOARD, *arguments], environment
    )


if __name__ == "__main__":
    main(sys.argv[1], only_makes_it="--make" in sys.argv[2:])
