"""The public examples against the validator: the committed table is what a run gives, and nothing in it is unexplained."""

from __future__ import annotations

from collections import Counter
from functools import cache

from gateway.fhir.validate import SUPPORTED_TYPES
from tests.conformance.real_input.table import EXAMPLES, PAGE, TABLE, Row, as_json, as_page, rows


@cache
def table() -> list[Row]:
    return list(rows())


def test_committed_table_is_what_a_run_gives() -> None:
    assert TABLE.read_text(encoding="utf-8") == as_json(table())


def test_committed_page_is_what_a_run_gives() -> None:
    assert PAGE.read_text(encoding="utf-8") == as_page(table())


def test_every_example_has_a_row() -> None:
    files = {path.relative_to(EXAMPLES).as_posix() for path in EXAMPLES.rglob("*.json")}
    assert {row.file for row in table()} == files
    assert len(files) >= 70


def test_no_supported_type_is_refused_as_unsupported() -> None:
    unsupported = [row for row in table() for reason in row.reasons if reason.code == "not-supported" and not reason.element]
    assert unsupported
    assert [row for row in unsupported if row.type in SUPPORTED_TYPES] == []


def test_every_difference_from_the_oracle_is_explained() -> None:
    differ = [row for row in table() if row.verdict != row.oracle]
    assert differ
    assert [row for row in differ if not row.difference] == []
    assert [row for row in table() if "UNEXPLAINED" in row.difference] == []


def test_every_refused_element_has_a_definition_to_check_it_against() -> None:
    named = [(row, reason) for row in table() for reason in row.reasons if reason.element and reason.code != "not-supported"]
    assert named
    assert [row for row, reason in named if not reason.definition] == []


def test_wrong_versions_and_malformed_files_are_refused() -> None:
    wrong = [row for row in table() if row.file.rpartition("/")[2].startswith("stu3__") and not row.part]
    broken = [row for row in table() if not row.type]
    assert len(wrong) == 2
    assert len(broken) == 2
    assert {row.verdict for row in (*wrong, *broken)} == {"refused"}


def test_the_sdoh_examples_of_supported_types_are_all_accepted() -> None:
    verdicts = Counter(row.verdict for row in table() if row.file.startswith("sdoh-") and row.type in SUPPORTED_TYPES)
    assert verdicts["accepted"] >= 20
    assert verdicts["refused"] == 0
