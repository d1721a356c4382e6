"""Set up `.venv` from the lock files: `python3 bootstrap.py runtime|dev`. Standard library only, since nothing is installed yet.

Every package is installed from `requirements/*.lock` with its hash checked, by uv where it can be had and by pip otherwise. A stamp
in the environment says for which lock file it was made, so that a second run does nothing. Two runs at once wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
VENV: Final = Path(os.environ.get("GATEWAY_VENV", ROOT / ".venv"))
PYTHON: Final = VENV / "bin" / "python"
LOCKS: Final = ROOT / "requirements"
MINIMUM: Final = (3, 11)
SETS: Final = {"runtime": "what the gateway and the demo need", "dev": "what the tests and checks need as well"}


def say(text: str) -> None:
    """Report progress on standard error; standard output stays for the command that follows."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], environment: Mapping[str, str]) -> bool:
    """Run a command with its output shown on standard error, and tell whether it succeeded."""
    return subprocess.run([str(part) for part in command], cwd=ROOT, env=dict(environment), stdout=sys.stderr, check=False).returncode == 0


def fingerprint(name: str) -> str:
    """What the environment depends on: the lock files, and the parts of pyproject.toml that an editable install writes down."""
    digest = hashlib.sha256()
    for path in (LOCKS / f"{name}.lock", LOCKS / "build.lock"):
        digest.update(path.read_bytes())
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("[tool.ruff]")[0]
    digest.update(declared.encode())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def stamp(name: str) -> Path:
    """The file that records for which lock file the environment was last made."""
    return VENV / f".{name}.stamp"


def is_made(name: str) -> bool:
    """Tell whether the environment already holds the set `name`; the dev set includes the runtime set."""
    wanted = fingerprint(name)
    return usable() and stamp(name).is_file() and stamp(name).read_text(encoding="utf-8").strip() == wanted


def usable() -> bool:
    """Tell whether `.venv` has an interpreter that starts; one copied from elsewhere or left by an older Python may not."""
    if not PYTHON.exists():
        return False
    probe = f"import sys, pip; sys.exit(sys.version_info < {MINIMUM!r})"
    return subprocess.run([str(PYTHON), "-c", probe], check=False, capture_output=True).returncode == 0


def environment_for_installers() -> dict[str, str]:
    """The caller's environment, with a cache folder that can be written even where HOME cannot."""
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    environment.update(PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", VIRTUAL_ENV=str(VENV))
    cache = Path(environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "/nonexistent") / ".cache")
    nearest = next((folder for folder in (cache, *cache.parents) if folder.exists()), Path("/"))
    if not os.access(nearest, os.W_OK):
        environment.setdefault("UV_CACHE_DIR", str(VENV / ".cache" / "uv"))
        environment.setdefault("PIP_CACHE_DIR", str(VENV / ".cache" / "pip"))
    # uv reads its own settings, not pip's: pass on the one that a private mirror needs.
    if "PIP_INDEX_URL" in environment:
        environment.setdefault("UV_DEFAULT_INDEX", environment["PIP_INDEX_URL"])
    return environment


def install_build_tools(environment: Mapping[str, str]) -> None:
    """Install the build backend and, where it has a wheel for this machine, uv: both pinned, both with hashes."""
    pip: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    if run([*pip, "-r", LOCKS / "build.lock"], environment):
        return
    without_uv = VENV / "build-without-uv.lock"
    without_uv.write_text(without_requirement((LOCKS / "build.lock").read_text(encoding="utf-8"), "uv"), encoding="utf-8")
    say("uv has no ready-made package for this machine; using pip")
    if not run([*pip, "-r", without_uv], environment):
        sys.exit("set-up: the build tools could not be installed; see the messages above (is a package index reachable?)")


def without_requirement(lock: str, name: str) -> str:
    """A lock file's text without the entry for one package."""
    kept: list[str] = []
    dropping = False
    for line in lock.splitlines(keepends=True):
        if not line.startswith((" ", "#")):
            dropping = line.startswith(f"{name}==")
        if not dropping:
            kept.append(line)
    return "".join(kept)


def install_locked(name: str, environment: Mapping[str, str]) -> None:
    """Install one lock file by uv, or by pip with the same hashes if uv is absent or fails."""
    lock = LOCKS / f"{name}.lock"
    uv = shutil.which("uv", path=str(VENV / "bin")) or shutil.which("uv")
    if uv is not None:
        say(f"installing {SETS[name]} (uv)")
        if run([uv, "pip", "install", "--python", PYTHON, "--require-hashes", "-r", lock], environment):
            return
        say("uv did not finish; trying again with pip")
    else:
        say(f"installing {SETS[name]} (pip)")
    if not run([PYTHON, "-m", "pip", "install", "--require-hashes", "--prefer-binary", "-r", lock], environment):
        sys.exit("set-up: the packages could not be installed; see the messages above (is a package index reachable?)")


def install_project(environment: Mapping[str, str]) -> None:
    """Install this folder itself as an editable package, for its `gateway` command; its dependencies are there already."""
    command: list[str | Path] = [PYTHON, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    if not run([*command, "--editable", ROOT], environment):
        sys.exit("set-up: the gateway itself could not be installed; see the messages above")


def make(name: str) -> None:
    """Bring the environment to the state that the lock file names, from whatever state it is in."""
    began = time.monotonic()
    if not usable():
        say(f"creating {VENV} with Python {sys.version.split()[0]}")
        venv.EnvBuilder(with_pip=True, clear=VENV.exists(), symlinks=True).create(VENV)
    environment = environment_for_installers()
    if not (VENV / ".build.stamp").is_file() or (VENV / ".build.stamp").read_bytes() != (LOCKS / "build.lock").read_bytes():
        say("installing the build tools")
        install_build_tools(environment)
        shutil.copyfile(LOCKS / "build.lock", VENV / ".build.stamp")
    install_locked(name, environment)
    install_project(environment)
    for each in SETS if name == "dev" else (name,):
        stamp(each).write_text(fingerprint(each) + "\n", encoding="utf-8")
    say(f"ready in {time.monotonic() - began:.0f} s")


def main(arguments: Sequence[str]) -> None:
    """Make the set named on the command line, one process at a time."""
    if len(arguments) != 1 or arguments[0] not in SETS:
        sys.exit(f"usage: bootstrap.py {'|'.join(SETS)}")
    if sys.version_info < MINIMUM:
        sys.exit(f"set-up: Python {'.'.join(map(str, MINIMUM))} or newer is needed; this is {sys.version.split()[0]}")
    VENV.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(ROOT, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if is_made(arguments[0]):
            stamp(arguments[0]).touch()
        else:
            make(arguments[0])
    finally:
        os.close(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
