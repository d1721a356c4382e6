"""Which schema a database is at, and which this version of the gateway knows. Read at every start, so without Alembic.

A revision's file is named after it, `NNNN_what.py`, each one more than the last: the folder is the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

__all__ = ["HUB", "KEYS", "SCRIPTS", "Schema", "WrongSchema"]

SCRIPTS: Final = Path(__file__).parent / "migrations"


class WrongSchema(Exception):
    """This version of the gateway must not run on this database. The text says what to do."""


@dataclass(frozen=True)
class Schema:
    """The revisions of one of the two databases."""

    what: str
    folder: Path

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Every revision this version has, oldest first."""
        return tuple(sorted(path.stem.partition("_")[0] for path in self.folder.glob("[0-9]*.py")))

    @property
    def head(self) -> str:
        """The newest revision."""
        return self.known[-1]

    def is_current(self, found: str | None) -> bool:
        """False when `gateway migrate` has something to do. Raises WrongSchema when the database is ahead of this version."""
        if found is not None and found not in self.known:
            raise WrongSchema(
                f"The schema of {self.what} is at a revision that this version of the gateway does not know: it was brought there by a"
                " newer version. Run that version, or restore a backup made before."
            )
        return found == self.head

    def require(self, found: str | None) -> None:
        """Raises WrongSchema unless the database is at the newest revision."""
        if not self.is_current(found):
            state = "has no schema yet" if found is None else "is at an older schema"
            raise WrongSchema(f"{self.what[0].upper()}{self.what[1:]} {state}: run `gateway migrate` with this version.")


HUB: Final = Schema("the hub's database", SCRIPTS / "versions")
KEYS: Final = Schema("the key store", SCRIPTS / "keys")
