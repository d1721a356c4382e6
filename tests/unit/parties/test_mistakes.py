"""A mistake in any file stops the hub, with the file, the line and the reason."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.unit.parties.conftest import ROOT, Spoil, line_of, mistakes_of

PROFILE = "consent_profiles/durham.yaml"
VSDR = "adapters/vsdr/manifest.yaml"
DRPS = "adapters/drps/manifest.yaml"
LAKERIDGE = "adapters/lakeridge/manifest.yaml"
CODES = "mappings/codes.yaml"
TERMS = "mappings/terms.yaml"
CLASSES = "mappings/data-classes.yaml"


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    old: str
    new: str
    reason: str
    at: str = ""  # text on the line reported; default the new text's first line
    where: str = ""  # file reported; default the file changed


CASES = [
    Case("not yaml", VSDR, "contract: 1", "contract: [1", "is not YAML", at="party: vsdr"),
    Case("key twice", VSDR, "region: durham", "region: durham\nparty: vsdr", "the key 'party' is given twice", at="-"),
    Case("unknown member", VSDR, "region: durham", "region: durham\nregoin: durham", "has no member 'regoin'", at="regoin"),
    Case("missing member", VSDR, "status-view: full\n", "", "the member 'status-view' is missing", at="contract"),
    Case("status view", VSDR, "status-view: full", "status-view: some", "must be one of full, minimal"),
    Case("word for a flag", VSDR, "own-shelf: false}", "own-shelf: no}", "must be boolean"),
    Case("contract too new", VSDR, "contract: 1", "contract: 9", "the adapter contract must be between 1 and 1"),
    Case("unknown kind", VSDR, "kind: victim-services", "kind: victims", "'victims' is not a kind"),
    Case("unknown role", VSDR, "role: ht-cic", "role: ht-boss", "'ht-boss' is not a role of the kind"),
    Case("role of another kind", VSDR, "role: ht-cic", "role: police-officer", "is not a role of the kind 'victim-services'"),
    Case("role address without role", VSDR, "role: ht-cic, ", "", "a role address names its role", at="vsdr.ht-cic,"),
    Case("unknown unit", VSDR, "unit: ht, role", "unit: hq, role", "'hq' is not a unit"),
    Case("unit twice", VSDR, "{id: ipv,", "{id: ht,", "the unit 'ht' is listed twice", at="Intimate partner violence, own"),
    Case("unknown service owned", LAKERIDGE, "owns: [dvsacc-fast-track]", "owns: [dvsacc-slow-track]", "is not a service"),
    Case("no backup", LAKERIDGE, "backups: [{address: lakeridge.charge-nurse, after: 5m}]", "backups: []", "routes[0].backups"),
    Case("backup missing", LAKERIDGE, ", backups: [{address: lakeridge.charge-nurse, after: 5m}]", "", "'backups' is missing", at="first:"),
    Case(
        "backup is the first",
        LAKERIDGE,
        "{address: lakeridge.charge-nurse,",
        "{address: lakeridge.dvsacc-nurse,",
        "a backup is somebody else",
    ),
    Case(
        "no line",
        LAKERIDGE,
        'line: {name: Emergency department charge desk, phone: "+1-905-555-0120"}\n',
        "",
        "'line' is missing",
        at="contract",
    ),
    Case("route to nobody", LAKERIDGE, "first: lakeridge.dvsacc-nurse", "first: lakeridge.nobody", "is not an address of this party"),
    Case("route to a stranger", LAKERIDGE, "first: lakeridge.dvsacc-nurse", "first: vsdr.ht-cic", "is not an address of this party"),
    Case("route across units", DRPS, "{address: drps.htu-supervisor,", "{address: drps.ipv-supervisor,", "belongs to another unit"),
    Case(
        "service without route",
        VSDR,
        "[crisis-counselling, victim-fund-assessment, court-accompaniment], first: vsdr.cic-on-call",
        "[crisis-counselling, court-accompaniment], first: vsdr.cic-on-call",
        "there is no route for 'victim-fund-assessment'",
        at="vsdr.cic-on-call, kind",
    ),
    Case("address of another name", VSDR, "id: vsdr.ht-cic,", "id: lakeridge.dvsacc-nurse,", "starts with 'vsdr.'"),
    Case("same address twice", VSDR, "id: vsdr.ipv-cic,", "id: vsdr.ht-cic,", "the address 'vsdr.ht-cic' belongs to 'vsdr' already"),
    Case(
        "unshared shelf without units", LAKERIDGE, "units: []", "units: []\nshared-shelf: false", "there must be units", at="shared-shelf"
    ),
    Case(
        "module missing",
        VSDR,
        "transport: fhir-push",
        "transport: fhir-push\nmodule: adapter.py",
        "there is no file 'adapter.py'",
        at="module",
    ),
    Case("owner unknown", VSDR, "owners: [vsdr.program-manager]", "owners: [vsdr.boss]", "the owner 'vsdr.boss' is not an address"),
    Case("profile unknown", VSDR, "consent-profile: durham", "consent-profile: elsewhere", "there is no consent profile 'elsewhere'"),
    Case("region unknown", VSDR, "region: durham", "region: elsewhere", "no consent profile is for the region 'elsewhere'"),
    Case(
        "agreement unknown",
        VSDR,
        "agreements: [durham-coalition,",
        "agreements: [other, durham-coalition,",
        "there is no agreement 'other'",
    ),
    Case("party without manifest", PROFILE, "parties: [drps, vsdr,", "parties: [drps, vsdr, nobody,", "'nobody', which has no manifest"),
    Case("mixed unit in an agreement", PROFILE, "parties: [drps, vsdr,", "parties: [drps, vsdr, care,", "'care' is a mixed unit"),
    Case(
        "party is a mixed unit",
        PROFILE,
        "mixed-units: [care, halt]",
        "mixed-units: [care, lakeridge]",
        "'lakeridge' is a mixed unit",
        at="party: lakeridge",
        where=LAKERIDGE,
    ),
    Case("unit is a mixed unit", VSDR, "{id: svu, name", "{id: care-desk, name", "'care-desk' is named after a mixed unit"),
    Case("unit named as a mixed unit", VSDR, "name: Sexual violence,", "name: HALT table,", "is named after a mixed unit", at="{id: svu"),
    Case(
        "party named as a mixed unit",
        VSDR,
        "name: Victim Services of Durham Region",
        "name: CARE unit of Durham Region",
        "is a mixed unit",
        at="party: vsdr",
    ),
    Case("role of a mixed unit", PROFILE, "mixed-units: [care, halt]", "mixed-units: [care, vwap]", "'vwap-worker' is named after this"),
    Case(
        "shared room, whole view",
        VSDR,
        "status-view: full",
        "status-view: full\ncolocated: police",
        "has the minimal view",
        at="status-view",
    ),
    Case(
        "shared room with nobody",
        VSDR,
        "status-view: full",
        "status-view: minimal\ncolocated: hospital",
        "narrows the view",
        at="colocated",
    ),
    Case(
        "unit in a room with nobody", VSDR, "violence, own-shelf: false}", "violence, own-shelf: true, colocated: cafe}", "narrows the view"
    ),
    Case(
        "unit in a shared room without a shelf",
        VSDR,
        "violence, own-shelf: false}",
        "violence, own-shelf: false, colocated: police}",
        "needs its own",
    ),
    Case(
        "work sent to a shared room",
        VSDR,
        "violence, own-shelf: false}",
        "violence, own-shelf: true, colocated: police}",
        "another queue",
        at="vsdr.ipv-cic",
    ),
    Case("company of no kind", CODES, "narrow-view: [police]", "narrow-view: [jesters]", "'jesters' is not a kind"),
    Case("address of a mixed unit", VSDR, "id: vsdr.ht-on-call", "id: vsdr.halt-on-call", "is named after a mixed unit"),
    Case(
        "party not in its agreement",
        PROFILE,
        "parties: [drps, vsdr, lakeridge, ",
        "parties: [drps, vsdr, ",
        "does not name this party",
        at="agreements:",
        where=LAKERIDGE,
    ),
    Case(
        "two manifests of a party",
        LAKERIDGE,
        "party: lakeridge",
        "party: vsdr",
        "the party 'vsdr' has a manifest already",
        at="party:",
        where=VSDR,
    ),
    Case("time zone", PROFILE, "timezone: America/Toronto", "timezone: America/Oshawa", "is not a time zone"),
    Case("agreement ends first", PROFILE, "starts: 2025-01-01", "starts: 2025-01-01\n    ends: 2024-01-01", "after the start", at="ends:"),
    Case("agreement on no day", PROFILE, "starts: 2025-01-01", "starts: 2025-02-30", "is not a day of the calendar"),
    Case(
        "service without owner",
        PROFILE,
        "dvsacc-fast-track, emergency-income",
        "dvsacc-fast-track,\n  youth-hub, emergency-income",
        "the service 'youth-hub' has no owner",
        at="youth-hub",
    ),
    Case(
        "unknown need list",
        TERMS,
        "crisis-counselling: {needs: all}",
        "crisis-counselling: {needs: some}",
        "there is no need list 'some'",
    ),
    Case("unknown need", TERMS, "income: [income, food,", "income: [income, foods,", "'foods' is not a need"),
    Case("unknown scope", TERMS, "  housing: {purposes", "  houses: {purposes", "'houses' is not a consent-scope"),
    Case(
        "unknown purpose",
        TERMS,
        "hospital-fast-track: {purposes: [ERTREAT]",
        "hospital-fast-track: {purposes: [FUN]",
        "'FUN' is not a purpose",
    ),
    Case("unknown notice", TERMS, "lifetime: 72h, notices: [limits]", "lifetime: 72h, notices: [limit]", "'limit' is not a notice"),
    Case("no notice", TERMS, "lifetime: 72h, notices: [limits]", "lifetime: 72h, notices: []", "consent-scopes.warm-transfer.notices"),
    Case("lifetime", TERMS, "lifetime: 72h", "lifetime: 72 hours", "must match"),
    Case("unknown basis", PROFILE, "    basis: police-cspa-s80", "    basis: police-whim", "'police-whim' is not a legal basis"),
    Case("basis of another kind", PROFILE, "    basis: police-cspa-s80", "    basis: own-access", "cannot invoke 'own-access'"),
    Case(
        "consent without scope",
        PROFILE,
        "    scope: warm-transfer\n",
        "",
        "a row names a consent scope exactly when",
        at="id: police-to-victim-services",
    ),
    Case("row scope unknown", PROFILE, "    scope: warm-transfer", "    scope: cold-transfer", "'cold-transfer' is not a consent scope"),
    Case(
        "row purpose never fits",
        PROFILE,
        "    purposes: [COC, victim-support]\n    status",
        "    purposes: [HLEGAL]\n    status",
        "could never permit",
        at="    scope: warm-transfer",
    ),
    Case(
        "row class unknown",
        PROFILE,
        "scene-cleared, meeting-place, safe-contact, {class",
        "scene-cleared, shoe-size, safe-contact, {class",
        "'shoe-size' is not a data class",
    ),
    Case("row class twice", PROFILE, "classes: [base, eta,", "classes: [base, alias, eta,", "the class 'alias' is listed twice"),
    Case(
        "row code unknown",
        PROFILE,
        "only: [companion-not-safe, device-watched]",
        "only: [companion-not-safe, wet-paint]",
        "is not a code that the class",
    ),
    Case(
        "row service elsewhere",
        PROFILE,
        "services: [dvsacc-fast-track]\n    purposes",
        "services: [youth-hub]\n    purposes",
        "is not a service of this profile",
    ),
    Case(
        "state without a clock",
        TERMS,
        "{id: line-given-follow-up, state: line-given,",
        "{id: line-given-follow-up, state: expired,",
        "would stay 'line-given'",
        at="child-protection-report,",
        where=PROFILE,
    ),
    Case(
        "priority without a clock",
        TERMS,
        "priorities: [routine], due: 2 business days, then: remind}\n  - {id: routine-acknowledged",
        "priorities: [urgent], due: 2 business days, then: remind}\n  - {id: routine-acknowledged",
        "a routine transfer for",
        at="services: [crisis-counselling, v",
        where=PROFILE,
    ),
    Case(
        "state nobody thought of",
        TERMS,
        "[introduced, en-route,",
        "[en-route,",
        "would stay 'introduced'",
        at="child-protection-report,",
        where=PROFILE,
    ),
    Case("attended state", TERMS, "[introduced, en-route,", "[introduced, on-route,", "'on-route' is not a business-status"),
    Case(
        "clock of the terms",
        PROFILE,
        "clocks: []",
        "clocks: [{id: crisis-accept, state: acknowledged, due: 5m, then: backup}]",
        "is one of the common terms",
    ),
    Case(
        "clock replaces nothing",
        PROFILE,
        "clocks: []",
        "clocks: [{id: mine, replaces: theirs, state: acknowledged, due: 5m, then: backup}]",
        "'theirs' is not a clock",
    ),
    Case(
        "row age",
        PROFILE,
        "age-bands: [18-24, 25plus, unknown-adult]",
        "age-bands: [18-24, 26plus, unknown-adult]",
        "'26plus' is not a age-band",
    ),
    Case(
        "row needs a yes to no question",
        PROFILE,
        "requires-yes: [charges-laid]",
        "requires-yes: [safe-contact]",
        "is not a class of this row that holds yes or no",
    ),
    Case(
        "row with review and classes",
        PROFILE,
        "    human-review: true\n    classes: []",
        "    human-review: true\n    classes: [alias]",
        "waits for a named human",
        at="classes: [alias]",
    ),
    Case("row obligation", PROFILE, "obligations: [HUAPRV]", "obligations: [HURRY]", "must be one of AOD, DELAU"),
    Case(
        "row for a kind that may not",
        PROFILE,
        "from: [victim-services, community]",
        "from: [victim-services, community, police]",
        "the kind 'police' cannot invoke 'serious-harm'",
        at="basis: serious-harm",
    ),
    Case(
        "channel unknown",
        PROFILE,
        "only: [via-worker]",
        "only: [via-owl]",
        "'via-owl' is not a code that the class 'safe-contact' can hold",
    ),
    Case("label by an unknown value", CLASSES, "ADOL: [u12,", "ADOL: [u13,", "'u13' is not a code that the class 'age-band' can hold"),
    Case("label by an unknown class", CLASSES, "unlabelled-with: {reason:", "unlabelled-with: {reasons:", "'reasons' is not a data class"),
    Case(
        "notice of a party",
        "adapters/ncourage/manifest.yaml",
        "notices: [run-by-society]",
        "notices: [run-by-nobody]",
        "'run-by-nobody' is not a notice",
    ),
    Case("addresses without an owner", VSDR, "owners: [vsdr.program-manager]", "owners: []", "says which of them answers"),
    Case(
        "row that leads nowhere",
        PROFILE,
        "services: [emergency-income, safe-phone]",
        "services: [emergency-income, safe-bed]",
        "no party of the kind 'income-support' takes 'safe-bed' here",
    ),
    Case(
        "service without terms",
        PROFILE,
        "dvsacc-fast-track, emergency-income",
        "dvsacc-slow-track, emergency-income",
        "is not a service of the common terms",
    ),
    Case(
        "row twice", PROFILE, "id: police-to-hospital", "id: police-to-income-support", "is listed twice", at="id: police-to-income-support"
    ),
    Case("row kind unknown", PROFILE, "    to: victim-services", "    to: victims", "'victims' is not a kind"),
    Case(
        "clock state",
        TERMS,
        "state: accepted, during: [en-route]",
        "state: arrived, during: [en-route]",
        "'arrived' is not a business-status",
    ),
    Case("clock services", TERMS, "services: in-person, priorities", "services: on-foot, priorities", "there is no service list 'on-foot'"),
    Case("class selector code", CLASSES, "{input: access,", "{input: acess,", "'acess' is not a task-input"),
    Case("class selector system", CLASSES, "codes: access}", "codes: accesses}", "'accesses' is not a code system"),
    Case("group names no class", CLASSES, "base: [pid,", "base: [pib,", "'pib' is not a data class"),
    Case("forbidden but sent", CLASSES, "inputs: [trauma-detail]", "inputs: [need]", "is a task-input that may be sent"),
    Case("ingest type unknown", CLASSES, "    meta: {use: Meta}", "    meta: {use: Mete}", "'Mete' is not one of the types"),
    Case(
        "ingest system unknown",
        CLASSES,
        "reasonCode: {concept: [reason]}",
        "reasonCode: {concept: [reasons]}",
        "'reasons' is not a code system",
    ),
    Case("ingest rule", CLASSES, "    birthDate: keep", "    birthDate: keeps", "birthDate"),
    Case("kind with an unknown role", CODES, "roles: [vwap-worker,", "roles: [vwap-worker, jester,", "'jester' is not a role"),
    Case("device of nobody", CODES, "        police: [ht-cic", "        cops: [ht-cic", "'cops' is not a kind"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_a_mistake_stops_the_hub_with_its_place_and_its_reason(case: Case, tree: Path, spoil: Spoil) -> None:
    spoil(case.file, case.old, case.new)

    found = mistakes_of(tree)

    file = case.where or case.file
    fitting = [mistake for mistake in found if mistake.file == file and case.reason in mistake.reason]
    assert fitting, [str(mistake) for mistake in found]
    if case.at != "-":
        text = case.at or case.new.splitlines()[0].strip()
        lines = [number for number, line in enumerate((tree / file).read_text().splitlines(), 1) if text in line]
        assert fitting[0].line in lines


def test_all_mistakes_are_told_at_once(tree: Path, spoil: Spoil) -> None:
    spoil(VSDR, "kind: victim-services", "kind: victims")
    spoil(PROFILE, "    basis: police-cspa-s80", "    basis: police-whim")
    spoil(CLASSES, "{input: access,", "{input: acess,")

    assert {CLASSES, PROFILE, VSDR} <= {mistake.file for mistake in mistakes_of(tree)}


def test_a_key_given_twice_is_reported_where_it_is_repeated(tree: Path, spoil: Spoil) -> None:
    spoil(VSDR, "region: durham", "region: durham\nparty: vsdr")

    assert mistakes_of(tree)[0].line == line_of(tree / VSDR, "region: durham") + 1


@pytest.mark.parametrize("folder", ["consent_profiles", "adapters"])
def test_nothing_to_load_is_a_mistake(folder: str, tree: Path) -> None:
    for file in (tree / folder).rglob("*.yaml"):
        file.unlink()

    assert any(mistake.file == folder for mistake in mistakes_of(tree))


def test_a_file_that_is_not_there_is_a_mistake(tree: Path) -> None:
    (tree / CODES).unlink()

    assert mistakes_of(tree)[0].file == CODES


def test_an_alias_of_itself_is_a_mistake_and_not_a_crash(tree: Path, spoil: Spoil) -> None:
    spoil(VSDR, "units:\n", "loop: &loop [*loop]\nunits:\n")

    assert mistakes_of(tree)


def test_every_file_of_the_repository_has_a_schema() -> None:
    names = {path.name.removesuffix(".schema.json") for path in (ROOT / "mappings" / "schemas").glob("*.json")}

    assert names == {"codes", "data-classes", "terms", "profile", "manifest", "registry"}
