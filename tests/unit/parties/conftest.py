"""The real configuration, and a copy of it that a test may spoil."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.parties.errors import ConfigurationError, Mistake
from gateway.parties.load import load_policy
from gateway.parties.model import Policy

ROOT = Path(__file__).resolve().parents[3]
Spoil = Callable[[str, str, str], None]


@pytest.fixture(scope="session")
def policy() -> Policy:
    return load_policy(ROOT, registry=None)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the configuration."""
    for folder in ("mappings", "consent_profiles", "adapters"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


@pytest.fixture
def spoil(tree: Path) -> Spoil:
    """Replace the first occurrence of a text in a file of the copy; the text must be there."""

    def change(file: str, old: str, new: str) -> None:
        path = tree / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def mistakes_of(tree: Path, registry: Path | None = None) -> tuple[Mistake, ...]:
    """What is wrong with the configuration in `tree`."""
    with pytest.raises(ConfigurationError) as caught:
        load_policy(tree, registry=registry)
    assert str(caught.value).count("\n") == len(caught.value.mistakes)
    return caught.value.mistakes


def line_of(file: Path, text: str) -> int:
    """The line on which a text stands first."""
    return next(number for number, line in enumerate(file.read_text().splitlines(), 1) if text in line)
