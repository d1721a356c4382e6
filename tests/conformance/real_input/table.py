"""What the ingest validator and fhir.resources say of each public example, and why they differ.

    python -m tests.conformance.real_input.table     writes table.json and docs/real-input.md again

Each file is one row, and each resource in a Bundle that has a type is one more, validated on its own as it would be if it were
posted alone. The last column is computed from what each validator checks; a difference that none of its sentences covers has none, and
the test fails on it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from gateway.fhir.model import load, plan
from gateway.fhir.oracle import parse_r4b
from gateway.fhir.parse import parse_json
from gateway.fhir.validate import SUPPORTED_TYPES, validate
from gateway.problems import Finding, IssueCode, Problem

ROOT: Final = Path(__file__).resolve().parents[3]
EXAMPLES: Final = ROOT / "tests" / "data" / "examples"
DEFINITIONS: Final = ROOT / "tests" / "data" / "r4-definitions.json"
TABLE: Final = Path(__file__).with_name("table.json")
PAGE: Final = ROOT / "docs" / "real-input.md"

_INDEX: Final = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class Reason:
    """One finding, with HL7's own sentence for the element it names."""

    code: str
    element: str
    say: str
    defined_at: str
    definition: str


@dataclass(frozen=True, slots=True)
class Row:
    file: str
    part: str  # FHIRPath within the file; empty for the whole
    type: str
    verdict: str  # accepted, refused
    reasons: tuple[Reason, ...]
    oracle: str
    oracle_elements: tuple[str, ...]
    difference: str  # why the two verdicts or their elements differ; empty when they agree


def rows() -> Iterator[Row]:
    definitions: dict[str, str] = json.loads(DEFINITIONS.read_text(encoding="utf-8"))
    for path in sorted(EXAMPLES.rglob("*.json")):
        name = path.relative_to(EXAMPLES).as_posix()
        try:
            resource = parse_json(path.read_bytes())
        except Problem as problem:
            reasons = tuple(Reason(f.code.value, "", f.say, "", "") for f in problem.findings)
            yield Row(name, "", "", "refused", reasons, "refused", ("not JSON",), "")
            continue
        yield _row(name, "", resource, definitions)
        if resource.get("resourceType") == "Bundle":
            for index, entry in enumerate(resource.get("entry", [])):
                inner = entry.get("resource") if isinstance(entry, dict) else None
                if isinstance(inner, dict) and "resourceType" in inner:
                    yield _row(name, f"entry[{index}].resource", inner, definitions)


def _row(file: str, part: str, resource: dict[str, Any], definitions: dict[str, str]) -> Row:
    findings = validate(resource)
    oracle = parse_r4b(resource)
    type_name = str(resource.get("resourceType", ""))
    reasons = tuple(_reason(finding, resource, definitions) for finding in findings)
    return Row(
        file,
        part,
        type_name,
        "refused" if findings else "accepted",
        reasons,
        "refused" if oracle else "accepted",
        tuple(oracle),
        _difference(type_name, findings, oracle),
    )


def _reason(finding: Finding, resource: dict[str, Any], definitions: dict[str, str]) -> Reason:
    at = _defined_at(finding.expression or "", resource)
    sentence = definitions.get(at, "").replace("\r", "").split("\n")[0]
    return Reason(finding.code.value, finding.expression or "", finding.say, at, sentence)


def _defined_at(expression: str, resource: dict[str, Any]) -> str:
    """The id of the element's definition: `Coding.code` for Consent.scope.coding[0].code."""
    types = load("model")["types"]
    steps = expression.split(".")
    type_name, at, node = steps[0], steps[0], resource
    for step in steps[1:]:
        bare, value = _INDEX.sub("", step), _down(node, step)
        if bare == "resource" and isinstance(value, dict) and value.get("resourceType") in types:
            type_name = at = value["resourceType"]
            node = value
            continue
        names = plan(type_name).names if type_name in types else {}
        known = next(((member, kind) for member, (name, kind) in names.items() if name == bare), None)
        if known is None:
            return at
        at = f"{type_name}.{bare}" if known[0] == bare else f"{type_name}.{bare}[x]"
        type_name, node = known[1], value
    return at


def _down(node: Any, step: str) -> Any:
    bare = _INDEX.sub("", step)
    value = node.get(bare) if isinstance(node, dict) else None
    for index in _INDEX.findall(step):
        number = int(index[1:-1])
        value = value[number] if isinstance(value, list) and number < len(value) else None
    return value


_OURS_ONLY: Final = {
    IssueCode.CODE_INVALID: "fhir.resources takes any code; R4 binds this element with strength required",
    IssueCode.INVARIANT: "fhir.resources does not check invariants",
    IssueCode.NOT_SUPPORTED: "not a type this hub takes; fhir.resources has models for all of R4B",
}


def _difference(type_name: str, findings: list[Finding], oracle: list[str]) -> str:
    if type_name not in SUPPORTED_TYPES:
        return "" if oracle == ["?"] else _OURS_ONLY[IssueCode.NOT_SUPPORTED]
    ours = {_plain(f.expression or "", type_name) for f in findings}
    theirs = {_plain(path, type_name) for path in oracle}
    notes: set[str] = set()
    for finding in findings:
        at = _plain(finding.expression or "", type_name)
        if at not in theirs:
            notes.add(_why_ours(finding, at, theirs))
    for path in theirs - ours:
        notes.add(_why_theirs(path, type_name, findings, ours))
    return "; ".join(sorted(notes))


def _why_ours(finding: Finding, at: str, theirs: set[str]) -> str:
    if finding.code in _OURS_ONLY:
        return _OURS_ONLY[finding.code]
    if at.endswith(".reference") and finding.code is IssueCode.VALUE:
        return "fhir.resources does not check what a literal reference looks like or may point at"
    if any(path.rpartition(".")[0] == at for path in theirs):
        return "an unknown member is named by its parent, as its name is input; fhir.resources names it"
    if any(at.startswith(f"{path}.") or path.startswith(f"{at}.") for path in theirs):
        return "the same fault, named one level apart"
    return "UNEXPLAINED"


def _why_theirs(path: str, type_name: str, findings: list[Finding], ours: set[str]) -> str:
    unsupported = {_plain(f.expression or "", type_name) for f in findings if f.code is IssueCode.NOT_SUPPORTED}
    if any(path == at or path.startswith(f"{at}.") for at in unsupported):
        return _OURS_ONLY[IssueCode.NOT_SUPPORTED]
    if any(path.rpartition(".")[0] == at for at in ours):
        return "an unknown member is named by its parent, as its name is input; fhir.resources names it"
    if any(at.startswith(f"{path}.") or path.startswith(f"{at}.") for at in ours):
        return "the same fault, named one level apart"
    return "UNEXPLAINED"


def _plain(path: str, type_name: str) -> str:
    """Both notations as one: `Endpoint.identifier[0]` and `Endpoint.identifier.0` are the same place."""
    dotted = re.sub(r"\[(\d+)\]", r".\1", path) or type_name
    return dotted.removesuffix(".root")


def as_json(table: list[Row]) -> str:
    return json.dumps([asdict(row) for row in table], indent=1, ensure_ascii=False) + "\n"


def as_page(table: list[Row]) -> str:
    verdicts = Counter(row.verdict for row in table)
    first = Counter(row.reasons[0].code for row in table if row.reasons)
    lines = [
        "# Real input",
        "",
        "Generated by `python -m tests.conformance.real_input.table`; a test compares it. Where the files come from, and under which",
        "licence: `tests/data/README.md`. The HL7 column is the first sentence of the R4 (4.0.1) definition of the element named.",
        "",
        f"{len(table)} rows (files, and the resources inside their Bundles):",
        f"{verdicts['accepted']} accepted, {verdicts['refused']} refused.",
        "",
        "| first reason | rows |",
        "|---|---|",
        *(f"| {code} | {count} |" for code, count in sorted(first.items())),
        "",
        "| file | part | type | hub | element, reason | HL7's definition | fhir.resources R4B | difference |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in table:
        reasons = "<br>".join(_cell(f"{r.element or '(body)'}: {r.code}: {r.say}") for r in row.reasons)
        sentences = "<br>".join(dict.fromkeys(_cell(f"{r.defined_at}: {_short(r.definition)}") for r in row.reasons if r.definition))
        oracle = row.oracle + (f": {_cell(', '.join(row.oracle_elements))}" if row.oracle_elements else "")
        lines.append(f"| {row.file} | {row.part} | {row.type} | {row.verdict} | {reasons} | {sentences} | {oracle} | {row.difference} |")
    return "\n".join(lines) + "\n"


def _short(text: str) -> str:
    return text.split(". ")[0].rstrip(".") + "." if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def main() -> None:
    table = list(rows())
    TABLE.write_text(as_json(table), encoding="utf-8")
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(as_page(table), encoding="utf-8")


if __name__ == "__main__":
    main()
