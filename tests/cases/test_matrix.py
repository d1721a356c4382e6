"""Every row of every region's disclosure matrix, as its case table states it: what arrives, value by value, and how it is refused.

The tables are `consent_profiles/<region>.cases.yaml`. They are played through the real Consent compiler, register, decision and
minimizer. No expectation is taken from a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Final

import pytest
import yaml

from gateway.decision.decide import Denial, Permit
from gateway.decision.grants import GrantState
from gateway.disclosure.minimize import OBLIGATIONS, Release
from gateway.identity import PartyId
from gateway.parties.model import Policy
from gateway.problems import Refusal
from tests.cases.world import (
    ENDS,
    GROUPS,
    HOUR,
    NOW,
    POLICY,
    ROOT,
    Json,
    arrived,
    findings_of,
    grants_of,
    put,
    source_of,
    with_basis,
    without_agreements,
)

FILES: Final = sorted((ROOT / "consent_profiles").glob("*.cases.yaml"))
TABLES: Final = {file.name.removesuffix(".cases.yaml"): yaml.safe_load(file.read_text()) for file in FILES}

BY_CONSENT: Final = {"no-consent", "expired", "withdrawn", "withdrawn-told", "wrong-purpose", "wrong-unit", "agreement-ended"}
BY_BASIS: Final = {"not-named", "basis-off", "wrong-purpose", "agreement-ended"}
MEMBERS: Final = {
    *("row", "from", "to", "service", "purpose", "basis", "shipped-off", "said", "sends", "consent", "arrives", "labels", "obligations"),
    *("lives", "also", "refused", "class-not-granted", "whatever-she-said", "answer"),
}


@dataclass(frozen=True)
class Block:
    """One row's cases in one table, for one sender."""

    region: str
    data: Json
    sender: str

    @property
    def name(self) -> str:
        return f"{self.data['row']}-from-{self.sender.replace('/', '.')}"

    @property
    def policy(self) -> Policy:
        """As shipped; a basis that is shipped off is switched on here to show what it would let through."""
        return with_basis(POLICY, self.data["basis"], enabled=True) if self.data.get("shipped-off") else POLICY

    @property
    def sent(self) -> Json:
        everything: Json = {**TABLES[self.region]["person"], **self.data.get("said", {})}
        only = self.data.get("sends")
        return {name: value for name, value in everything.items() if value is not None and (only is None or name in only)}

    def ask(
        self, *, consents: list[Json] | None = None, policy: Policy | None = None, **more: Any
    ) -> tuple[Permit | Denial, Release | None]:
        using = policy or self.policy
        said = ([self.data["consent"]] if "consent" in self.data else []) if consents is None else consents
        ends = more.pop("ends", ENDS)
        fields: Json = {
            "sender": self.sender,
            "to": self.data["to"],
            "service": self.data["service"],
            "purposes": [self.data["purpose"]],
            "source": source_of({**self.sent, **more.pop("say", {})}),
            "grants": grants_of(said, using, ends=ends),
            "basis": self.data.get("basis"),
        }
        return put(using, **(fields | more))


def blocks() -> list[Block]:
    found = []
    for region, table in TABLES.items():
        for data in table["rows"]:
            senders = data["from"] if isinstance(data["from"], list) else [data["from"]]
            found += [Block(region, data, sender) for sender in senders]
    return found


ALL: Final = blocks()
GO: Final = [block for block in ALL if "answer" not in block.data]
ON_CONSENT: Final = [block for block in GO if "consent" in block.data]
ON_BASIS: Final = [block for block in GO if "consent" not in block.data]
WAIT: Final = [block for block in ALL if "answer" in block.data]


def each(found: list[Block]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("block", found, ids=lambda block: block.name)


def refused(answer: tuple[Permit | Denial, Release | None]) -> str:
    denial, release = answer
    assert isinstance(denial, Denial) and release is None, "it must be refused"
    return denial.refusal.value


def goes(answer: tuple[Permit | Denial, Release | None], row: str) -> Release:
    permit, release = answer
    assert isinstance(permit, Permit), permit
    assert permit.row.id == row, "by another row than the table says"
    assert release is not None
    return release


# -- what arrives ------------------------------------------------------------------------------------------------------------------


@each(GO)
def test_exactly_this_arrives(block: Block) -> None:
    release = goes(block.ask(), block.data["row"])

    assert arrived(release) == block.data["arrives"]
    assert [release.confidentiality, *release.sensitivity] == block.data["labels"]
    assert release.obligations == (*OBLIGATIONS, *block.data.get("obligations", ()))


@each(ON_CONSENT)
def test_a_class_that_she_did_not_grant_stays(block: Block) -> None:
    said = block.data["class-not-granted"]
    if "answer" in said:
        assert refused(block.ask(say={name: TABLES[block.region]["person"][name] for name in said["sending"]})) == said["answer"]
        return
    consent = {**block.data["consent"], "classes": [name for name in GROUPS["everything"] if name != said["without"]]}

    release = goes(block.ask(consents=[consent]), block.data["row"])

    assert said["without"] in block.data["arrives"]
    assert arrived(release) == {name: value for name, value in block.data["arrives"].items() if name != said["without"]}


@each([block for block in GO if "also" in block.data])
def test_what_else_arrives_later_or_under_a_consent_of_its_own(block: Block) -> None:
    for more in block.data["also"]:
        consents = [block.data["consent"]] if "consent" in block.data else []
        consents += [more["consent"]] if "consent" in more else []

        release = goes(block.ask(consents=consents, state=more.get("once", "offered")), block.data["row"])

        assert not more["arrives"].keys() & block.data["arrives"].keys()
        assert arrived(release) == block.data["arrives"] | more["arrives"]


@each([block for block in GO if "lives" in block.data])
def test_a_copy_lives_no_longer_than_its_row_says(block: Block) -> None:
    permit, _ = block.ask()

    assert isinstance(permit, Permit) and permit.ends == NOW + int(block.data["lives"].removesuffix("h")) * HOUR


# -- how it is refused -------------------------------------------------------------------------------------------------------------


@each(ON_CONSENT)
def test_the_consent_itself_is_sound(block: Block) -> None:
    assert findings_of(block.data["consent"], POLICY) == []


@each(ON_CONSENT)
def test_a_consent_without_one_of_its_notices_is_refused(block: Block) -> None:
    notices = block.data["consent"].get("notices", ["limits"])
    for index in range(len(notices)):
        less = {**block.data["consent"], "notices": [*notices[:index], *notices[index + 1 :]]}
        assert [finding.refusal for finding in findings_of(less, POLICY)] == [Refusal.NOTICE_MISSING]


@each(ON_CONSENT)
def test_without_a_live_consent_it_is_refused(block: Block) -> None:
    said = block.data["refused"]
    grants = grants_of([block.data["consent"]], POLICY)
    over = tuple(replace(grant, state=GrantState.WITHDRAWN) for grant in grants)

    assert refused(block.ask(consents=[])) == said["no-consent"]
    assert refused(block.ask(at=ENDS + 1)) == said["expired"]
    assert refused(block.ask(grants=over)) == said["withdrawn"]
    assert refused(block.ask(grants=over, recalled=frozenset(grant.id for grant in over))) == said["withdrawn-told"]


@each(ON_CONSENT)
def test_a_consent_that_names_another_unit_is_none(block: Block) -> None:
    other = block.data["refused"]["wrong-unit"]

    assert refused(block.ask(consents=[{**block.data["consent"], "to": other["to"]}])) == other["answer"]


@each(ON_BASIS)
def test_a_basis_is_named_and_on_or_nothing_goes(block: Block) -> None:
    said = block.data["refused"]

    assert refused(block.ask(basis=None)) == said["not-named"]
    assert refused(block.ask(policy=with_basis(POLICY, block.data["basis"], enabled=False))) == said["basis-off"]
    if block.data.get("shipped-off"):
        assert refused(block.ask(policy=POLICY)) == said["basis-off"], "it is switched on in what is shipped"


@each([block for block in ON_BASIS if "whatever-she-said" in block.data])
def test_no_consent_blocks_it_and_none_is_needed(block: Block) -> None:
    to = POLICY.addresses[block.data["to"]].party
    said = {
        "by": "vsdr",
        "to": f"Organization/{to}",
        "scope": "child-welfare-support",
        "purposes": ["child-protection"],
        "classes": ["everything"],
    }
    recorder = "drps/htu" if to == "vsdr" else "vsdr"
    never = grants_of([{**said, "by": recorder, "never": True}], POLICY)
    withdrawn = tuple(replace(grant, state=GrantState.WITHDRAWN) for grant in grants_of([{**said, "by": recorder}], POLICY))

    for grants in ((), never, withdrawn):
        assert arrived(goes(block.ask(grants=grants), block.data["row"])) == block.data["arrives"]


@each(GO)
def test_another_purpose_or_an_agreement_that_ended_is_refused(block: Block) -> None:
    said = block.data["refused"]

    assert refused(block.ask(purposes=[said["wrong-purpose"]["purpose"]])) == said["wrong-purpose"]["answer"]
    assert refused(block.ask(policy=without_agreements(block.policy, NOW))) == said["agreement-ended"]


@each([block for block in GO if any(key in block.data["refused"] for key in ("other-age", "age-not-said", "not-yes"))])
def test_what_she_or_the_sender_said_decides(block: Block) -> None:
    said = block.data["refused"]
    for band in said.get("other-age", {}).get("bands", ()):
        assert refused(block.ask(say={"age-band": band})) == said["other-age"]["answer"]
    if "age-not-said" in said:
        silent = {name: value for name, value in block.sent.items() if name not in ("age-band", "dob")}
        assert refused(block.ask(source=source_of(silent))) == said["age-not-said"]
    if "not-yes" in said:
        assert refused(block.ask(say={said["not-yes"]["class"]: False})) == said["not-yes"]["answer"]


@each(WAIT)
def test_a_named_human_answers_and_nothing_goes(block: Block) -> None:
    said = block.data["refused"]

    assert refused(block.ask()) == block.data["answer"]
    assert refused(block.ask(basis=None)) == said["not-named"]
    assert refused(block.ask(policy=with_basis(POLICY, block.data["basis"], enabled=False))) == said["basis-off"]
    assert refused(block.ask(policy=without_agreements(POLICY, NOW))) == said["agreement-ended"]


# -- what no row lists -------------------------------------------------------------------------------------------------------------

DENIED: Final = [(region, item) for region, table in TABLES.items() for item in table["denied"]]


@pytest.mark.parametrize(
    ("region", "item"), DENIED, ids=lambda x: x if isinstance(x, str) else f"{x['from']}-to-{x['to']}".replace("/", ".")
)
def test_what_is_not_listed_is_refused_for_every_service_and_under_every_consent(region: str, item: Json) -> None:
    address = POLICY.addresses.get(item["to"])
    party = address.party if address else PartyId(item["to"])
    source = source_of({name: value for name, value in TABLES[region]["person"].items() if value is not None})
    actor = "Organization/" + party if address is None else f"{address.kind}/{address.id}"
    recorder = "drps/htu" if party == "vsdr" else "vsdr"
    named = [scope for scope in POLICY.scopes.values() if not scope.names_unit or (address is not None and address.unit is not None)]
    agreed = [
        {"by": recorder, "to": actor, "scope": scope.id, "purposes": sorted(scope.purposes), "classes": ["everything"]} for scope in named
    ]
    grants = grants_of(agreed, POLICY)
    bases = [None, *(name for name, basis in POLICY.bases.items() if basis.enabled and not basis.needs_consent)]

    def asked(service: str, basis: str | None) -> str:
        fields: Json = {"sender": item["from"], "to": item["to"], "service": service, "basis": basis, "grants": grants}
        return refused(put(POLICY, purposes=sorted(POLICY.purposes), source=source, **fields))

    answers = {asked(service, basis) for service, basis in product(item.get("services", sorted(POLICY.services)), bases)}

    assert answers <= {item["answer"], Refusal.BASIS_OFF.value} and item["answer"] in answers


# -- the tables are whole ------------------------------------------------------------------------------------------------------------


def missing_in(region: str, table: Json, policy: Policy) -> list[str]:
    """What a region's table leaves unsaid."""
    stated: dict[str, list[Json]] = {}
    for data in table["rows"]:
        stated.setdefault(data["row"], []).append(data)
    found = [f"{name}: no such row" for name in stated if all(row.id != name for row in policy.rows)]
    for row in (row for row in policy.rows if row.region == region):
        cases = stated.get(row.id, [])
        kinds = {policy.parties[PartyId(one.partition("/")[0])].kind for data in cases for one in _senders(data)}
        if row.sender_kind not in kinds:
            found.append(f"{row.id}: no case from the kind {row.sender_kind}")
        for data in cases:
            found += [f"{row.id}: unknown member {name}" for name in data.keys() - MEMBERS]
            wanted = BY_BASIS - {"wrong-purpose"} if "answer" in data else BY_CONSENT if row.scope is not None else BY_BASIS
            found += [f"{row.id}: {name}" for name in sorted(wanted - data["refused"].keys())]
            if row.scope is not None and "class-not-granted" not in data:
                found.append(f"{row.id}: class-not-granted")
            if row.age_bands is not None:
                bands = set(data["refused"].get("other-age", {}).get("bands", ()))
                found += [f"{row.id}: age {band}" for band in sorted(policy.codes["age-band"] - row.age_bands - bands)]
                found += [] if "age-not-said" in data["refused"] else [f"{row.id}: age-not-said"]
            if row.requires_yes and "not-yes" not in data["refused"]:
                found.append(f"{row.id}: not-yes")
            if (row.life is not None) != ("lives" in data):
                found.append(f"{row.id}: lives")
    return found + _unlisted(region, table, policy)


def _senders(data: Json) -> list[str]:
    return data["from"] if isinstance(data["from"], list) else [data["from"]]


def _unlisted(region: str, table: Json, policy: Policy) -> list[str]:
    """Pairs of kinds of this region that no row joins and no case refuses."""
    kinds = sorted({party.kind for party in policy.parties.values() if party.region == region})
    joined = {(row.sender_kind, row.receiver_kind) for row in policy.rows if row.region == region and not row.cross_region}
    shown = {(_kind(item["from"], policy), _kind(item["to"], policy)) for item in table["denied"]}
    pairs = [pair for pair in product(kinds, kinds) if pair not in joined | shown]
    return [f"{sender} to {receiver}: neither a row nor a refusal" for sender, receiver in pairs]


def _kind(name: str, policy: Policy) -> str:
    address = policy.addresses.get(name)
    return policy.parties[address.party if address else PartyId(name.partition("/")[0])].kind


@pytest.mark.parametrize("region", sorted(POLICY.timezones))
def test_every_row_has_its_cases(region: str) -> None:
    assert missing_in(region, TABLES[region], POLICY) == []


@pytest.mark.parametrize("region", sorted(POLICY.timezones))
def test_a_row_without_its_cases_is_found(region: str) -> None:
    table = TABLES[region]
    for index, data in enumerate(table["rows"]):
        less = {**table, "rows": [other for other in table["rows"] if other["row"] != data["row"]]}
        assert any(said.startswith(data["row"] + ":") for said in missing_in(region, less, POLICY))
        for name in data["refused"]:
            spoiled = {**data, "refused": {key: value for key, value in data["refused"].items() if key != name}}
            less = {**table, "rows": [*table["rows"][:index], spoiled, *table["rows"][index + 1 :]]}
            assert missing_in(region, less, POLICY), f"{data['row']} without {name}"
    assert any("neither a row nor a refusal" in said for said in missing_in(region, {**table, "denied": []}, POLICY))
