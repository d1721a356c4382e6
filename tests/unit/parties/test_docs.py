"""What a file may hold is documented, and what is documented may be held."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from tests.unit.parties.conftest import ROOT

SCHEMAS = sorted((ROOT / "mappings" / "schemas").glob("*.json"))


def _members(schema: Any) -> set[str]:
    """Every member that a schema names, at any depth."""
    if isinstance(schema, list):
        return {name for item in schema for name in _members(item)}
    if not isinstance(schema, dict):
        return set()
    own = set(schema["properties"]) if isinstance(schema.get("properties"), dict) else set()
    return own | {name for key, item in schema.items() if key != "enum" for name in _members(item)}


@pytest.mark.parametrize("schema", SCHEMAS, ids=lambda path: path.name)
def test_every_member_of_a_file_is_in_the_guide(schema: Any) -> None:
    guide = (ROOT / "docs" / "configuration.md").read_text()
    standard = {"kty", "kid", "crv", "x", "y", "n", "e", "alg", "use", "key_ops", "url", "value", "class", "max-length"}

    missing = {name for name in _members(json.loads(schema.read_text())) - standard if not re.search(rf"\b{re.escape(name)}\b", guide)}

    assert not missing


@pytest.mark.parametrize("manifest", sorted((ROOT / "adapters").glob("*/manifest.yaml")), ids=lambda path: path.parent.name)
def test_every_party_has_a_page_that_names_its_settings(manifest: Any) -> None:
    page = (manifest.parent / "README.md").read_text()

    assert all(name in page for name in yaml.safe_load(manifest.read_text())["settings"])
