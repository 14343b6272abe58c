"""Starts the JupyterLab of a notebook; run as a program of its own, where the notebook runs.

    PYTHON -I -S notebook.py ENVIRONMENTS_FOLDER [--make]

Where the image names no interpreter, the environment is made first, once for all notebooks:
ENVIRONMENTS_FOLDER/jupyterlab-DIGEST, by venv, and uv or pip, from the list beside this file.
With --make it does no more than that: who starts it later may then have no right to.
It tells how far it is in `start.json` of the folder that it begins in: {"note", "failure"}.
This file imports nothing of muster: it also runs where only the standard library is.

In its environment it finds what it needs to know:

    MUSTER_NOTEBOOK_INTERPRETER  what to run JupyterLab with; empty: the environment that is made
    MUSTER_NOTEBOOK_PACKAGES     what a saved image has besides, as pip lists it; empty: nothing
    MUSTER_NOTEBOOK_FOLDER       what is kept of the notebook; its files lie in `work`
    MUSTER_NOTEBOOK_BASE_URL     the path that it is reached by
    JUPYTER_TOKEN                what must come with each request
    MUSTER_HOST, MUSTER_PORT     where it has to listen
"""

# pathlib takes longer to import than all the rest.
# ruff: noqa: PTH100, PTH103, PTH109, PTH110, PTH118, PTH120, PTH123

import contextlib
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time

START_FILE = "start.json"
ANNOUNCEMENTS = "@jupyterlab/apputils-extension:announcements"
PACKAGES_FILE = "notebook-packages.txt"
PACKAGES = "MUSTER_NOTEBOOK_PACKAGES"
MADE_MARK = "made"  # in an environment that is whole
SHELLS = ("/bin/bash", "/bin/sh")  # of terminals, the best first
LOCK_LOOK_SECONDS = 0.5
NOTE_SECONDS = 0.5  # between two of them
LINE_LENGTH_MAX = 500
# Two things take longer than all the rest of its start, and nothing here needs them: a grammar that
# is compiled to check IRIs, and, where there is a Node.js, asking that for its package registry.
JUPYTERLAB = """
import sys
sys.modules["rfc3987_syntax"] = None
try:
    from jupyterlab import commands
    commands._yarn_config = lambda logger: {"yarn config": {}, "npm config": {}}
    from jupyterlab.labapp import main
except ModuleNotFoundError as error:
    sys.exit(f"muster: {sys.executable} has no JupyterLab ({error}); install it there")
main()
"""


class CannotStartError(Exception):
    """Its text is for the notebook's owner."""


def main(environments: str, *, only_makes_it: bool) -> None:
    here = os.getcwd()
    try:
        interpreter = os.environ["MUSTER_NOTEBOOK_INTERPRETER"]
        if only_makes_it:
            make_environment(environments, here)
            return
        if not interpreter:
            interpreter = make_environment(environments, here)
        kept, packages = os.environ["MUSTER_NOTEBOOK_FOLDER"], os.environ.get(PACKAGES, "")
        layer = make_layer(interpreter, kept, packages, here)
        tell(here, note="Starting JupyterLab")
        run_jupyterlab(interpreter, layer)
    except (CannotStartError, OSError) as error:
        tell(here, failure=str(error))
        sys.exit(f"muster: {error}")


def make_environment(
    environments: str, here: str, *, name: str = "jupyterlab", list_file: str = PACKAGES_FILE
) -> str:
    """Its interpreter. Whoever comes while it is being made waits until it is."""
    packages = os.path.join(os.path.dirname(os.path.abspath(__file__)), list_file)
    with open(packages, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()[:12]
    folder = os.path.join(environments, f"{name}-{digest}")
    interpreter = os.path.join(folder, "bin", "python")
    mark = os.path.join(folder, MADE_MARK)
    if os.path.exists(mark):
        return interpreter  # who only runs it may not be allowed to write there
    os.makedirs(environments, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        while not os.path.exists(mark):
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                tell(here, note="Waiting for the environment, which another start makes")
                time.sleep(LOCK_LOOK_SECONDS)
                continue
            if not os.path.exists(mark):
                tell(here, note="Making the environment")
                run([sys.executable, "-m", "venv", "--clear", folder], here)
                install(interpreter, packages, here)
                print(f"muster: made {folder}", flush=True)  # noqa: T201 - as in `run`
                with open(mark, "w"):
                    pass  # only now: what is there in part is made anew
    return interpreter


def make_layer(interpreter: str, kept: str, packages: str, here: str) -> str:
    """The folder of the notebook's own layer over its environment: see layer.py.

    What its user has installed there is kept, whatever environment it is made over.
    """
    folder = os.path.join(kept, "environment")
    mark = os.path.join(folder, MADE_MARK)
    # What the name of the interpreter leads to tells one version of Python from the next.
    below = "\n".join((interpreter, os.path.realpath(interpreter), packages))
    with contextlib.suppress(FileNotFoundError), open(mark) as file:
        if file.read() == below:
            return folder
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "layer.py")
    tell(here, note="Making the notebook's own layer of the environment")
    run([interpreter, "-I", script, folder], here)
    if packages:
        list_file = os.path.join(folder, "packages.txt")
        with open(list_file, "w") as file:
            file.write(packages)
        # The list has all that was there; what they need besides is below.
        install(os.path.join(folder, "bin", "python"), list_file, here, "--no-deps")
    with open(mark, "w") as file:
        file.write(below)
    return folder


def install(interpreter: str, packages: str, here: str, *more: str) -> None:
    """By uv where muster has it, ten times quicker; by pip where that is not there, or fails."""
    uv = os.path.join(os.path.dirname(sys.executable), "uv")
    if os.path.exists(uv):
        with contextlib.suppress(CannotStartError):
            # As pip does where its settings say so: what the system trusts, a mirror's own too.
            certificates = {"UV_SYSTEM_CERTS": "1"}
            command = [uv, "pip", "install", "--python", interpreter, "--requirement", packages]
            # As pip does, too: who runs it may not be allowed to leave what was compiled there.
            command.append("--compile-bytecode")
            run([*command, *more, *sources_of_pip(interpreter)], here, certificates)
            return
    pip = [interpreter, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    run([*pip, "install", *more, "--requirement", packages], here)


def sources_of_pip(interpreter: str) -> list[str]:
    """Where pip is told to find packages, as arguments that uv shares with it."""
    told = subprocess.run(  # noqa: S603 - no shell
        [interpreter, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    sources = ["--index-strategy", "unsafe-best-match"]  # pip knows no order of indexes either
    for line in told.stdout.splitlines():
        name, _, shown = line.partition("=")
        flag, values = f"--{name.rpartition('.')[2]}", shown.strip("'\"").split()
        if flag in ("--index-url", "--extra-index-url", "--find-links"):
            sources += [part for value in values for part in (flag, value)]
        elif flag == "--no-index" and values not in (["0"], ["false"]):
            sources.append(flag)
    return sources


def run(command: list[str], here: str, settings: dict[str, str] | None = None) -> None:
    """Run one step of the making; its last lines are its progress, and the reason if it fails."""
    last, error, told_at = "", "", 0.0
    environment = {name: text for name, text in os.environ.items() if name != "JUPYTER_TOKEN"}
    environment |= settings or {}
    with subprocess.Popen(  # noqa: S603 - no shell
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)  # noqa: T201 - it is the log of the notebook
            last = line.strip()[:LINE_LENGTH_MAX] or last
            if last.startswith("ERROR"):
                error = last
            if time.monotonic() > told_at + NOTE_SECONDS:
                tell(here, note=f"Making the environment: {last}")
                told_at = time.monotonic()
    if process.returncode != 0:
        raise CannotStartError(
            "The environment could not be made:"
            f" {error or last or f'exit code {process.returncode}'}"
        )


def tell(folder: str, *, note: str = "", failure: str = "") -> None:
    """For the platform, which reads it whenever it likes: so it is never there in part."""
    draft = os.path.join(folder, f"{START_FILE}.draft")
    with open(draft, "w") as file:
        json.dump({"note": note, "failure": failure}, file)
    os.replace(draft, os.path.join(folder, START_FILE))  # noqa: PTH105 - see above


def run_jupyterlab(interpreter: str, layer: str) -> None:
    """Become JupyterLab, by the environment's interpreter; all that it starts is of the layer."""
    environment = dict(os.environ)
    kept = environment.pop("MUSTER_NOTEBOOK_FOLDER")
    base_url = environment.pop("MUSTER_NOTEBOOK_BASE_URL")
    del environment["MUSTER_NOTEBOOK_INTERPRETER"]
    environment.pop(PACKAGES, None)
    work = os.path.join(kept, "work")
    for folder in (work, os.path.join(kept, "settings")):
        os.makedirs(folder, mode=0o700, exist_ok=True)
    environment |= {
        # Settings and histories outlive a stop like the files.
        "JUPYTER_CONFIG_DIR": os.path.join(kept, "settings", "config"),
        "JUPYTER_DATA_DIR": os.path.join(kept, "settings", "data"),
        "IPYTHONDIR": os.path.join(kept, "settings", "ipython"),
        "JUPYTER_RUNTIME_DIR": os.path.join(environment["TMPDIR"], "runtime"),
        "JUPYTER_PATH": os.path.join(layer, "share", "jupyter"),
        "VIRTUAL_ENV": layer,
        "PATH": os.pathsep.join(
            (os.path.join(layer, "bin"), os.path.dirname(interpreter), environment["PATH"])
        ),
    }
    ask_for_no_news(environment["JUPYTER_CONFIG_DIR"])
    os.chdir(work)
    settings = {
        "ServerApp.base_url": base_url,
        "ServerApp.root_dir": work,
        "ServerApp.ip": environment["MUSTER_HOST"],
        "ServerApp.port": environment["MUSTER_PORT"],
        "ServerApp.port_retries": "0",  # another port would be nobody's
        "ServerApp.open_browser": "False",
        "ServerApp.allow_remote_access": "True",  # it is asked by muster's own name
        "ServerApp.allow_root": "True",
        "ServerApp.quit_button": "False",
        # Not as a login shell, which it would be: that one begins with a PATH of its own.
        "ServerApp.terminado_settings": f"shell_command={next(filter(os.path.exists, SHELLS))}",
        "LabApp.extension_manager": "readonly",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    }
    arguments = [f"--{name}={value}" for name, value in settings.items()]
    os.execve(  # noqa: S606 - no shell
        interpreter, [interpreter, "-c", JUPYTERLAB, *arguments], environment
    )


def ask_for_no_news(config: str) -> None:
    """It would ask its user whether to fetch some from elsewhere. What users have set stays."""
    path = os.path.join(config, "labconfig", "page_config.json")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with contextlib.suppress(FileExistsError), open(path, "x") as file:
        json.dump({"disabledExtensions": {ANNOUNCEMENTS: True}}, file)


if __name__ == "__main__":
    main(sys.argv[1], only_makes_it="--make" in sys.argv[2:])
