"""What can be set, called or answered is documented; what is documented is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from gateway.api.errors import STATUS
from gateway.api.fhir import TABLE
from gateway.cli import app
from gateway.identity import StatusView
from gateway.oauth.scopes import ActionScope
from gateway.problems import ProblemType, Refusal
from gateway.settings import Settings
from gateway.storage import tables
from gateway.transfers.model import Seen, State, responsible_in, seen_by_receiver, seen_by_sender

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "partner-guide.md"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "NOTICE", *(ROOT / "docs").rglob("*.md"), *(ROOT / "adapters").glob("*/README.md")]
)
README = (ROOT / "README.md").read_text()
DOCS = "\n".join(page.read_text() for page in (ROOT / "docs").rglob("*.md"))

LINK = re.compile(r"(?<!\w)!?\[[^\]]*\]\(([^)\s]+)\)", re.S)
NAMED_FILE = re.compile(r"(?<![\w/.-])((?:gateway|tests|scripts|docs|adapters|consent_profiles|mappings|deploy)/[\w./-]*[\w/])(?![\w*])")


def rows(heading: str, page: Path = GUIDE) -> list[list[str]]:
    """The cells of the first table after a heading, without its head."""
    _, found, after = page.read_text().partition(f"{heading}\n")
    assert found, heading
    table = after[after.index("\n|") :].split("\n\n")[0].strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[2:]]


def code(cell: str) -> str:
    """The word between backquotes."""
    found = re.search(r"`([^`]+)`", cell)
    assert found is not None, cell
    return found[1]


def verbs(group: object = None, before: str = "gateway") -> Iterator[str]:
    """Every command of the command line, as it is typed."""
    command = get_command(app) if group is None else group
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from verbs(inner, f"{before} {name}")
        else:
            yield f"{before} {name}"


def anchors(page: Path) -> set[str]:
    """The anchors that a page's headings make."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert f"GATEWAY_{name.upper()}" in DOCS


def test_no_setting_is_documented_that_is_not_one() -> None:
    known = {f"GATEWAY_{name.upper()}" for name in Settings.model_fields} | {"GATEWAY_ENV_FILE"}
    assert set(re.findall(r"\bGATEWAY_[A-Z_]*[A-Z]", DOCS + README)) <= known


def test_every_command_is_documented() -> None:
    assert isinstance(app, typer.Typer)
    found = list(verbs())
    assert {"gateway serve", "gateway audit verify"} <= set(found)
    assert [verb for verb in found if f"`{verb}" not in DOCS] == []


def test_no_command_is_documented_that_is_not_one() -> None:
    groups = {"gateway audit", "gateway config", "gateway consent", "gateway keys", "gateway party", "gateway policy"}
    named = set(re.findall(r"`(gateway (?:(?:audit|config|consent|keys|party|policy) )?[a-z-]+)(?! v\d)\b", DOCS + README))
    assert named <= {*verbs(), *groups}


def test_what_the_readme_and_the_docs_make_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README + DOCS, re.M))
    assert {"demo", "test"} <= named <= targets


def test_the_refusals_are_those_of_the_code_in_their_order() -> None:
    assert [code(row[0]) for row in rows("### Refusals")] == [refusal.value for refusal in Refusal]


def test_the_problem_types_are_those_of_the_code_with_their_statuses() -> None:
    assert {code(row[0]): int(row[1]) for row in rows("### Problem types")} == {type_.value: STATUS[type_] for type_ in ProblemType}


def test_the_search_parameters_are_those_that_are_served() -> None:
    told = {code(row[0]): set(re.findall(r"`([^`]+)`", row[1])) for row in rows("## 6. Read")}
    assert told == {type_: {parameter.name for parameter in can.search} for type_, can in TABLE.items()}


def test_the_views_are_those_that_are_rendered() -> None:
    def cell(seen: Seen) -> str:
        return f"`{seen.code}`, final" if seen.final else f"`{seen.code}`"

    told = {code(row[0]): row[1:] for row in rows("### What each party sees")}
    assert told == {
        state.value: [
            cell(seen_by_receiver(state)),
            cell(seen_by_sender(state, StatusView.FULL)),
            cell(seen_by_sender(state, StatusView.MINIMAL)),
            responsible_in(state).value,
        ]
        for state in State
    }


def test_the_scopes_named_are_scopes() -> None:
    named = {name for row in rows("## 2. Get a token") for name in re.findall(r"`([^`]+)`", row[1])}
    assert named <= {scope.value for scope in ActionScope}


def test_every_table_is_described() -> None:
    described = {name for row in rows("## Tables", ROOT / "docs" / "architecture.md") for name in re.findall(r"`([a-z_]+)`", row[0])}
    assert described == {*tables.metadata.tables, *tables.keys_metadata.tables}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(page.read_text()):
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_file_named_is_there(page: Path) -> None:
    text = re.sub(r"\w+://\S+", "", page.read_text())
    missing = [name for name in NAMED_FILE.findall(text) if not (ROOT / name).exists() and not (page.parent / name).exists()]
    assert missing == []


def test_every_file_of_the_architecture_picture_is_there() -> None:
    picture = (ROOT / "docs" / "images" / "architecture.svg").read_text()
    lines = re.findall(r'<text class="mono"[^>]*>([^<]+)<', picture)
    for line in lines:
        folder = line.partition("/")[0]
        for name in re.findall(r"[\w/]+\.py", line):
            where = name if "/" in name else f"{folder}/{name}"
            assert (ROOT / "gateway" / where).exists() or where.startswith("adapters/"), where


@pytest.mark.parametrize("picture", sorted((ROOT / "docs" / "images").glob("*.svg")), ids=lambda path: path.name)
def test_a_picture_fetches_nothing_and_is_shown(picture: Path) -> None:
    text = picture.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")
    assert not re.search(r"(?:href|src|url)\s*[=(]\s*[\"']?(?:https?:|//)", text)
    assert f"images/{picture.name}" in README + DOCS


def test_what_is_in_the_changelog_for_this_version_is_this_version() -> None:
    from gateway import __version__

    assert re.search(rf"^## {re.escape(__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.M)
