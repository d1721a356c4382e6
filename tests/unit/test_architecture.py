"""The shape that the design promises, read from the source: where names may occur, who may call what, how large a file may be."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pytest
import yaml

ROOT: Final = Path(__file__).resolve().parents[2]
CORE: Final = ROOT / "gateway"
LINES_LIMIT: Final = 450

OTHER_PARTIES: Final = frozenset(
    "opp dcas dbcfs vwap vwap-durham crown-durham vs-peel peel-cas ncourage prp ow-peel dir-211 durham peel ontario epic meditech".split()
)
"""Parties, regions and partners' products that the core must not know either, though no manifest here names them yet."""
MIXED_UNITS: Final = frozenset({"CARE", "HALT"})
"""Units shared with police. As words these are common, so only the capitals count."""

PURE: Final = (
    *("decision", "disclosure/ages.py", "disclosure/minimize.py", "disclosure/selecting.py", "disclosure/views.py"),
    *("transfers/model.py", "contact", "audit/merkle.py"),
)
"""What takes values and returns values. Its imports are import-linter's to check; here, that it reads no clock by a type's method."""

READS_THE_REAL_CLOCK: Final = {
    "gateway/clock.py": "the port to it",
    "gateway/app.py": "it hands real time to what makes and checks tokens, which take it as an argument",
    "gateway/oauth/cli.py": "a key signs from a real time on",
    "gateway/parties/cli.py": "keys end, and tokens count, by real time; what the audit log says is business time, through the port",
    "gateway/delivery/runner.py": "a lease on a delivery runs out in real time, or a stopped business clock would keep it for ever",
    "gateway/storage/postgres.py": "a key's tombstone is compared with the age of real backups, whatever business time says",
    "gateway/storage/sqlite.py": "the same",
}
"""Modules that may ask the machine for the time. Business time comes through the port; tokens and leases get real time injected."""

MAKES_RELEASES: Final = frozenset({"gateway/disclosure/minimize.py"})
HOLDS_TWO_SHELVES: Final = frozenset({"gateway/disclosure/release.py"})
CLOSES_SHELVES: Final = frozenset({"gateway/disclosure/closing.py"})
"""Opens a shelf to close or narrow what lies there, one at a time; nothing that it reads of one goes to another."""
OPENS_ANY_SHELF: Final = "reading_shelf"
"""The method that opens a shelf by name rather than the one a token names; defined in gateway/shelves, called by the release step."""


@dataclass(frozen=True, slots=True)
class Source:
    """One Python file of the tree."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def in_core(self) -> bool:
        """Whether it is product code proper: neither the simulated partners nor the test kit."""
        return self.name.startswith("gateway/") and not self.name.startswith(("gateway/sandbox/", "gateway/testing/"))

    def calls(self) -> Iterator[tuple[str, int]]:
        """The last name of everything called, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call):
                if isinstance(node.func, ast.Name):
                    yield node.func.id, node.lineno
                elif isinstance(node.func, ast.Attribute):
                    yield node.func.attr, node.lineno

    def names(self) -> Iterator[tuple[str, int]]:
        """Every name that is used, imported or reached as an attribute, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Name):
                yield node.id, node.lineno
            elif isinstance(node, ast.Attribute):
                yield node.attr, node.lineno
            elif isinstance(node, ast.alias):
                yield node.name.rpartition(".")[2], node.lineno

    def imports(self) -> Iterator[tuple[str, int]]:
        """The full name of every module or member imported, with its line."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield alias.name, node.lineno
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield f"{'.' * node.level}{node.module or ''}.{alias.name}", node.lineno


@functools.cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the product, its tests and its scripts."""
    found = []
    for top in ("gateway", "adapters", "scripts", "tests"):
        for path in sorted((ROOT / top).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            found.append(Source(path, path.relative_to(ROOT).as_posix(), text, ast.parse(text)))
    return tuple(found)


def core() -> list[Source]:
    return [source for source in sources() if source.in_core]


def places(found: Iterator[tuple[str, int]], wanted: frozenset[str] | set[str], source: Source) -> list[str]:
    """Where wanted names occur, as `file:line`, for a message that helps."""
    return [f"{source.name}:{line} {name}" for name, line in found if name in wanted]


def words_in(document: object, keys: frozenset[str]) -> Iterator[str]:
    """The text values, at any depth of a parsed YAML file, that stand under one of the keys."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key in keys:
                values = value if isinstance(value, list) else [value]
                yield from (item for item in values if isinstance(item, str))
            yield from words_in(value, keys)
    elif isinstance(document, list):
        for item in document:
            yield from words_in(item, keys)


def party_words() -> set[str]:
    """Party ids and regions: from the names of the folders, from manifests, from profiles, and the list above."""
    words = set(OTHER_PARTIES)
    keys = frozenset({"party", "parties", "region", "regions"})
    for path in [*ROOT.glob("adapters/*/manifest.yaml"), *ROOT.glob("consent_profiles/*.yaml")]:
        words |= set(words_in(yaml.safe_load(path.read_text(encoding="utf-8")), keys))
    return words | {path.parent.name for path in ROOT.glob("adapters/*/manifest.yaml")}


def mentions(text: str, words: set[str]) -> list[str]:
    """The lines of a text that hold one of the words, as a whole word in any case, or a mixed unit in capitals."""
    any_case = re.compile(rf"\b({'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})\b", re.IGNORECASE)
    capitals = re.compile(rf"\b({'|'.join(sorted(MIXED_UNITS))})\b")
    return [
        f"{number} {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if any_case.search(line) or capitals.search(line)
    ]


def test_the_core_names_no_party_region_or_partner_product() -> None:
    words = party_words()
    found = {source.name: mentions(source.text, words) for source in sources() if source.name.startswith("gateway/")}
    found = {name: lines for name, lines in found.items() if lines and not name.startswith("gateway/sandbox/")}
    assert found == {}


def test_the_words_come_from_the_data_and_are_found_as_whole_words_only() -> None:
    words = party_words()
    assert {path.parent.name for path in ROOT.glob("adapters/*/manifest.yaml")} <= words
    assert mentions("send it to the OPP, then\nopposite opportunities, health care\nnever CARE", words) == [
        "1 send it to the OPP, then",
        "3 never CARE",
    ]


def test_no_file_is_too_long() -> None:
    lengths = {source.name: len(source.text.splitlines()) for source in sources()}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_LIMIT} == {}


def test_a_release_is_made_in_one_place() -> None:
    found = [place for source in core() if source.name not in MAKES_RELEASES for place in places(source.calls(), {"Release"}, source)]
    assert found == []


def test_only_the_release_step_opens_a_shelf_by_name() -> None:
    allowed = HOLDS_TWO_SHELVES | CLOSES_SHELVES | {source.name for source in core() if source.name.startswith("gateway/shelves/")}
    found = [place for source in core() if source.name not in allowed for place in places(source.names(), {OPENS_ANY_SHELF}, source)]
    assert found == []


def test_nothing_but_the_shelves_package_builds_a_shelf() -> None:
    found = [
        place for source in core() if not source.name.startswith("gateway/shelves/") for place in places(source.calls(), {"Shelf"}, source)
    ]
    assert found == []


def test_middleware_is_plain_asgi() -> None:
    assert [place for source in core() for place in places(source.names(), {"BaseHTTPMiddleware"}, source)] == []


def test_nothing_uses_the_test_client_of_starlette() -> None:
    modules = {"fastapi.testclient", "starlette.testclient"}
    found = [
        f"{source.name}:{line} {name}"
        for source in sources()
        for name, line in source.imports()
        if name in modules or name.rpartition(".")[0] in modules
    ]
    assert found == []


def test_product_code_prints_only_at_the_command_line() -> None:
    found = [
        place
        for source in core()
        if source.path.stem not in {"cli", "demo", "__main__"} and "demo" not in source.path.parts and "cli" not in source.path.parts
        for place in places(source.calls(), {"print"}, source)
    ]
    assert found == []


def real_clock_reads(source: Source) -> list[str]:
    """Where a file asks the machine what time it is. Measuring a duration (monotonic, perf_counter) is something else."""
    asked = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today"), ("time", "time"), ("time", "time_ns")}
    found = []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr if isinstance(node.value, ast.Attribute) else ""
            if (owner, node.attr) in asked:
                found.append(f"{source.name}:{node.lineno} {owner}.{node.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module == "time":
            found += [f"{source.name}:{node.lineno} time.{alias.name}" for alias in node.names if alias.name in {"time", "time_ns"}]
    return found


def test_the_time_comes_from_the_clock_port() -> None:
    reading = {source.name: real_clock_reads(source) for source in core()}
    assert {name: found for name, found in reading.items() if found and name not in READS_THE_REAL_CLOCK} == {}
    unneeded = [name for name in READS_THE_REAL_CLOCK if reading.get(name) == []]
    assert unneeded == [], "an exemption that is not needed any more"


def test_what_decides_gets_the_time_as_a_value() -> None:
    pure = [source for source in core() if source.name.removeprefix("gateway/").startswith(PURE)]
    assert [place for source in pure for place in places(source.names(), {"SystemClock", "Clock"}, source)] == []


def test_an_adapter_imports_nothing_of_the_hub_but_its_public_interface() -> None:
    found = []
    for source in sources():
        if source.name.startswith("adapters/"):
            own = source.path.parent.name
            for name, line in source.imports():
                hub = name.split(".")[0] == "gateway" and not (name + ".").startswith("gateway.adapter_api.")
                other = name.split(".")[0] == "adapters" and not name.startswith(f"adapters.{own}.")
                if hub or other or name.startswith(".."):
                    found.append(f"{source.name}:{line} {name}")
    assert found == []


def test_the_import_rules_name_modules_that_exist_once_the_product_is_whole() -> None:
    if not (CORE / "app.py").exists():
        return
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    named = {
        module for contract in contracts for key, value in contract.items() if key.endswith(("modules", "importers")) for module in value
    }
    ours = {module for module in named if module.startswith("gateway.") and "*" not in module}
    assert {module for module in ours if not (ROOT / Path(*module.split("."))).is_dir() and find_spec(module) is None} == set()


def test_every_suppression_has_its_reason_beside_it() -> None:
    marker = re.compile(r"#\s*(?:type: ignore(?:\[[^\]]*\])?|noqa(?::\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?)(.*)$")
    found = []
    for source in sources():
        for number, line in enumerate(source.text.splitlines(), 1):
            match = marker.search(line)
            if match is not None and len(re.findall(r"[A-Za-z]{2,}", match[1])) < 2 and "marker = re.compile" not in line:
                found.append(f"{source.name}:{number}")
    assert found == []


def test_nothing_is_left_to_do_in_the_code() -> None:
    unfinished = re.compile(r"#\s*(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    found = [f"{source.name}:{n}" for source in sources() for n, line in enumerate(source.text.splitlines(), 1) if unfinished.search(line)]
    assert found == []


def test_no_module_is_a_drawer() -> None:
    drawers = {"utils.py", "util.py", "helpers.py", "helper.py", "common.py", "misc.py", "manager.py"}
    assert [source.name for source in sources() if source.path.name in drawers and not source.name.startswith("tests/")] == []


@dataclass(frozen=True, slots=True)
class Locked:
    """One entry of a lock file."""

    version: str
    hashes: int


def locked(name: str) -> dict[str, Locked]:
    """The packages of a lock file, by their normal name."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    found = {}
    for entry in entries:
        package, _, rest = entry.partition("==")
        found[normal(package)] = Locked(rest.split()[0], entry.count("--hash=sha256:"))
    return found


def normal(package: str) -> str:
    """A package's name as package indexes compare it, without extras."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", package.strip())[0]).lower()


LOCK_FILES: Final = ("runtime", "dev", "build")


@pytest.mark.parametrize("name", LOCK_FILES)
def test_every_locked_package_has_hashes_and_no_address_stands_there(name: str) -> None:
    packages = locked(name)
    assert packages
    assert {package for package, entry in packages.items() if entry.hashes == 0} == set()
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    assert not re.search(r"://|--(?:extra-)?index|--find-links|--trusted-host|@ ", text)


@pytest.mark.parametrize("name", LOCK_FILES)
def test_packages_that_must_stay_out_are_out(name: str) -> None:
    kept_out = {
        "httpx2": "respx would miss its requests",
        "pymerkle": "GPL",
        "psycopg": "LGPL",
        "psycopg-binary": "LGPL",
        "psycopg2": "LGPL",
    }
    assert {package: reason for package, reason in kept_out.items() if package in locked(name)} == {}


def test_httpx2_is_not_installed() -> None:
    assert find_spec("httpx2") is None


def test_the_lock_files_agree_with_each_other_and_with_what_is_declared() -> None:
    runtime, dev, build = (locked(name) for name in LOCK_FILES)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {normal(package) for package in declared["project"]["dependencies"]} <= runtime.keys()
    assert {normal(package) for package in declared["dependency-groups"]["dev"]} <= dev.keys()
    assert {package for package in runtime if dev.get(package) != runtime[package]} == set()
    assert {package for package in build.keys() & dev.keys() if build[package] != dev[package]} == set()


def test_no_registry_is_named_where_setting_up_is_written_down() -> None:
    files = [
        ROOT / "Makefile",
        ROOT / ".ci" / "run",
        ROOT / "pyproject.toml",
        ROOT / "scripts" / "bootstrap.py",
        *ROOT.glob("requirements/*"),
    ]
    assert [path.name for path in files if "://" in path.read_text(encoding="utf-8")] == []
