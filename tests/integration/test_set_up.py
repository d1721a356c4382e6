"""Setting up from nothing: what the first `make` does on a machine that has only Python and make."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.bootstrap import without_requirement

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("Makefile", "pyproject.toml", "README.md", "LICENSE", "requirements", "scripts", "gateway/__init__.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the files that setting up reads, with no environment in it."""
    for name in NEEDED:
        source, target = ROOT / name, tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    return tmp_path


def make(checkout: Path, target: str, *variables: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run one make target there, as a newcomer's shell would."""
    clean = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "GATEWAY_VENV"}}
    command = ["make", "--no-print-directory", target, *variables]
    return subprocess.run(command, cwd=checkout, env={**clean, **environment}, capture_output=True, text=True, check=False)


def test_an_interpreter_that_will_not_do_is_refused_with_what_to_install(checkout: Path) -> None:
    done = make(checkout, ".venv/.runtime.stamp", "PYTHON=/bin/false")

    assert done.returncode != 0
    assert "Python 3.11 or newer" in done.stderr
    assert not (checkout / ".venv").exists()


def test_plain_make_explains_itself_and_installs_nothing(checkout: Path) -> None:
    done = make(checkout, "help")

    assert done.returncode == 0
    assert "make demo" in done.stdout
    assert not (checkout / ".venv").exists()


def test_a_package_is_taken_out_of_a_lock_file_whole() -> None:
    lock = (
        "# made by\na==1 \\\n    --hash=sha256:1\nuv==2 ; x \\\n    --hash=sha256:2 \\\n    --hash=sha256:3\nz==4 \\\n    --hash=sha256:4\n"
    )
    assert without_requirement(lock, "uv") == "# made by\na==1 \\\n    --hash=sha256:1\nz==4 \\\n    --hash=sha256:4\n"


@pytest.mark.ci
@pytest.mark.parametrize("uv_works", [True, False], ids=["by uv", "by pip when uv fails"])
def test_the_runtime_set_is_installed_from_nothing_and_then_left_alone(checkout: Path, uv_works: bool) -> None:
    environment = {} if uv_works else {"UV_OFFLINE": "1", "UV_CACHE_DIR": str(checkout / "empty-cache")}

    first = make(checkout, ".venv/.runtime.stamp", **environment)
    assert first.returncode == 0, first.stderr[-2000:]
    assert ("trying again with pip" in first.stderr) is not uv_works
    assert (checkout / ".venv" / "bin" / "gateway").exists()

    shown = subprocess.run(
        [checkout / ".venv/bin/python", "-c", "import gateway, fastapi, asyncpg; print(gateway.__file__)"],
        cwd="/",
        env={"PATH": os.defpath},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(shown.stdout.strip()).parent.parent == checkout

    second = make(checkout, ".venv/.runtime.stamp")
    assert second.returncode == 0
    assert "set-up" not in second.stderr


@pytest.mark.ci
def test_a_package_that_is_not_the_locked_one_is_refused(checkout: Path) -> None:
    lock = checkout / "requirements" / "runtime.lock"
    head, marker, tail = lock.read_text(encoding="utf-8").partition("anyio==")
    lines = tail.splitlines(keepends=True)
    forged = [line[: line.index("sha256:") + 7] + "0" * 64 + line[line.index("sha256:") + 71 :] for line in lines[1:3]]
    lock.write_text(head + marker + "".join([lines[0], *forged, *lines[3:]]), encoding="utf-8")

    done = make(checkout, ".venv/.runtime.stamp")

    assert done.returncode != 0
    assert not (checkout / ".venv" / ".runtime.stamp").exists()
