"""Reads all configuration and compiles it into one `Policy`, or says everything that is wrong with it.

    mappings/codes.yaml -> mappings/data-classes.yaml -> mappings/terms.yaml
        -> consent_profiles/*.yaml -> adapters/*/manifest.yaml -> the registry

Each stage checks the shape of a file against its JSON Schema, then what it names against the stages before it, and at the end
all of them against each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

import orjson

from gateway.identity import PartyId
from gateway.parties.classes import ClassBook, compile_classes
from gateway.parties.codes import CodeBook, compile_codes
from gateway.parties.crosscheck import check
from gateway.parties.errors import Mistakes
from gateway.parties.manifests import Member, compile_manifest, manifest_files
from gateway.parties.model import Policy, Service
from gateway.parties.profiles import Profile, compile_profile
from gateway.parties.registry import Registry, compile_registry
from gateway.parties.schema import SCHEMAS, Checker, checker
from gateway.parties.terms import Terms, compile_terms
from gateway.parties.yaml_lines import Document, read

__all__ = ["Loaded", "load_files", "load_policy"]

_EPOCH_DIGITS: Final = 15  # 60 bits: fits a signed 64-bit column


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files say, and what registrations from elsewhere are compiled against."""

    policy: Policy
    members: Mapping[PartyId, Member]
    book: CodeBook
    root: Path
    check_registry: Checker


def load_policy(root: Path, *, registry: Path | None, regions: Collection[str] | None = None) -> Policy:
    """The policy that `load_files` makes of the files alone."""
    return load_files(root, registry=registry, regions=regions).policy


def load_files(root: Path, *, registry: Path | None, regions: Collection[str] | None = None) -> Loaded:
    """The configuration under `root`, with the clients and endpoints in `registry` (none without it).

    `regions` limits it to those regions' profiles and the parties that use them. `version` and `epoch` follow the content: they change
    with any value, and with no comment or layout. Raises `ConfigurationError` with every mistake, each with its file and line.
    """
    root = root.resolve()
    mistakes = Mistakes(root)
    checkers = {name: checker(root / "mappings" / "schemas", name) for name in SCHEMAS}

    def checked(file: Path, schema: str) -> Document:
        document = read(file, mistakes)
        if document.lines:
            checkers[schema](document, mistakes)
        return document

    code_file = checked(root / "mappings" / "codes.yaml", "codes")
    class_file = checked(root / "mappings" / "data-classes.yaml", "data-classes")
    terms_file = checked(root / "mappings" / "terms.yaml", "terms")
    profile_files = [checked(file, "profile") for file in sorted((root / "consent_profiles").glob("*.yaml")) if ".cases" not in file.name]
    manifests = [checked(file, "manifest") for file in manifest_files(root)]
    registry_file = checked(registry.resolve(), "registry") if registry is not None else None
    if not profile_files:
        mistakes.add(root / "consent_profiles", 1, "there is no consent profile here")
    if not manifests:
        mistakes.add(root / "adapters", 1, "there is no manifest here")
    mistakes.stop_if_any()

    elsewhere: frozenset[str] = frozenset()
    joining: set[str] = set()
    if regions is not None:
        for region in sorted(frozenset(regions) - {each.data["region"] for each in profile_files}):
            mistakes.add(root / "consent_profiles", 1, f"there is no consent profile for the region {region!r}")
        elsewhere = frozenset(each.data["region"] for each in profile_files) - frozenset(regions)
        joining = {name for each in profile_files for name in _joining(each, elsewhere)}
        profile_files = [each for each in profile_files if each.data["region"] in regions]
        names = {each.file.stem for each in profile_files}
        manifests = [each for each in manifests if each.data["consent-profile"] in names]
    book = compile_codes(code_file, mistakes)
    classes = compile_classes(class_file, book, mistakes)
    terms = compile_terms(terms_file, book, mistakes)
    profiles = [_served(compile_profile(document, book, classes, terms, mistakes), elsewhere) for document in profile_files]
    members = [compile_manifest(document, book, mistakes) for document in manifests]
    check(profiles, members, terms, book, joining, mistakes)
    by_party = {member.party.id: member for member in members}
    registered = Registry({}, {}) if registry_file is None else compile_registry(registry_file, by_party, book, mistakes)
    mistakes.stop_if_any()
    documents = [code_file, class_file, terms_file, *profile_files, *manifests, *([registry_file] if registry_file else [])]
    policy = _assemble(book, classes, terms, profiles, by_party, registered, _version(documents))
    return Loaded(policy, MappingProxyType(by_party), book, root, checkers["registry"])


def _joining(document: Document, elsewhere: frozenset[str]) -> list[str]:
    """The agreements of a profile that join a region which is not served."""
    return [agreement["id"] for agreement in document.data["agreements"] if elsewhere.intersection(agreement["regions"])]


def _served(profile: Profile, elsewhere: frozenset[str]) -> Profile:
    """The profile without what it agreed with a region that is not served."""
    return replace(profile, agreements=tuple(each for each in profile.agreements if not each.regions & elsewhere))


def _version(documents: Iterable[Document]) -> str:
    """A hash of what the files say. Their names and layout don't count, the kind of each is in its content."""
    digest = hashlib.sha256()
    for document in documents:
        content = orjson.dumps(document.data, option=orjson.OPT_SORT_KEYS)
        digest.update(len(content).to_bytes(8, "big"))
        digest.update(content)
    return digest.hexdigest()


def _assemble(
    book: CodeBook,
    classes: ClassBook,
    terms: Terms,
    profiles: list[Profile],
    members: Mapping[PartyId, Member],
    registered: Registry,
    version: str,
) -> Policy:
    parties = {party_id: member.party for party_id, member in members.items()}
    owned: dict[str, set[PartyId]] = {}
    for party in parties.values():
        for service in party.services:
            owned.setdefault(service, set()).add(party.id)
    used = frozenset(service for profile in profiles for service in profile.services)
    elsewhere: dict[str, set[str]] = {}
    for profile in profiles:
        for clock in profile.replaced:
            elsewhere.setdefault(clock, set()).add(profile.region)
    common = tuple(replace(clock, except_regions=frozenset(elsewhere.get(clock.id, ()))) for clock in terms.clocks)
    return Policy(
        version=version[:16],
        epoch=int(version[:_EPOCH_DIGITS], 16),
        parties=MappingProxyType(parties),
        addresses=MappingProxyType({address.id: address for party in parties.values() for address in party.addresses}),
        services=MappingProxyType(
            {
                name: Service(name, book.displays["service"][name], frozenset(owned.get(name, ())), codes)
                for name, codes in terms.services.items()
                if name in used
            }
        ),
        agreements=tuple(agreement for profile in profiles for agreement in profile.agreements),
        rows=tuple(row for profile in profiles for row in profile.rows),
        scopes=MappingProxyType(dict(terms.scopes)),
        bases=MappingProxyType(dict(terms.bases)),
        clocks=(*common, *(clock for profile in profiles for clock in profile.clocks)),
        classes=classes.classes,
        forbidden=classes.forbidden,
        ingest=classes.ingest,
        mixed_units=frozenset(name for profile in profiles for name in profile.mixed_units),
        clients=MappingProxyType(dict(registered.clients)),
        endpoints=MappingProxyType(dict(registered.endpoints)),
        timezones=MappingProxyType({profile.region: profile.timezone for profile in profiles}),
        codes=MappingProxyType({**book.codes, "data-class": frozenset(classes.classes)}),
        displays=MappingProxyType(dict(book.displays)),
        purposes=MappingProxyType(dict(book.purposes)),
        kinds=MappingProxyType(dict(book.kinds)),
        groups=classes.groups,
        always=classes.always,
        forbidden_elements=classes.forbidden_elements,
        narrative=classes.narrative,
        device_refusals=MappingProxyType(dict(book.device_refusals)),
        manifests=MappingProxyType({party_id: member.manifest for party_id, member in members.items()}),
    )
