"""What configuration says, as values: parties, agreements, the disclosure matrix, consent scopes, bases, clocks, routes.

Everything here is data from `adapters/*/manifest.yaml`, `consent_profiles/*.yaml` and `mappings/*.yaml`; core code reads it
and knows no party, region or service by name. `Policy` is immutable: a change of configuration is a new Policy with a new epoch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from gateway.identity import ClientId, PartyId, ShelfId, StatusView

__all__ = [
    "Address",
    "AddressKind",
    "Agreement",
    "BackupStep",
    "Basis",
    "Binding",
    "ClassRule",
    "Client",
    "ClockRule",
    "ConsentScope",
    "DataClass",
    "ElementRule",
    "Endpoint",
    "Kind",
    "Manifest",
    "MatrixRow",
    "Party",
    "Policy",
    "Route",
    "Selector",
    "SelectorKind",
    "Service",
    "SmartAuth",
    "Transport",
    "Treatment",
    "Unit",
    "Verification",
]


class Verification(StrEnum):
    """Whether counsel has confirmed a legal point."""

    UNVERIFIED = "unverified"
    VERIFIED = "verified"


class AddressKind(StrEnum):
    """What a referral may be addressed to (R7): never a bare Organization, never a named worker."""

    ROLE = "PractitionerRole"
    TEAM = "HealthcareService"


@dataclass(frozen=True, slots=True)
class Address:
    """One addressable role or on-call team of a party; `id` is the directory resource's logical id, unique in the hub."""

    id: str
    kind: AddressKind
    party: PartyId
    unit: str | None
    shelf: ShelfId
    name: str
    role: str | None
    services: frozenset[str]
    phone: str | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of a party. `own_shelf` when other units of the party must not read its work."""

    id: str
    name: str
    own_shelf: bool
    colocated: str | None = None  # the kind of party whose room or device its staff share (R17)


class Transport(StrEnum):
    """How news reaches a shelf's system."""

    FHIR_PUSH = "fhir-push"  # the shelf's own copies, as a FHIR transaction to the partner's server
    NUDGE = "nudge"  # a content-free notice; the partner then reads its shelf
    NONE = "none"  # the partner polls


@dataclass(frozen=True, slots=True)
class SmartAuth:
    """How the hub gets tokens from a partner's own authorization server. All of it is registered, nothing discovered."""

    token_url: str
    client_id: str  # the hub's name there
    scope: str
    key_file: str  # path of the hub's private key for this partner alone


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one shelf's system is reached. The address is registered, never taken from a request."""

    id: str
    shelf: ShelfId
    transport: Transport
    address: str
    auth: SmartAuth | None = None  # None = the hub's own signed statement


@dataclass(frozen=True, slots=True)
class BackupStep:
    """One step of a receiver's own chain: whom the transfer is offered to when the one before did not answer."""

    address: str  # Address.id
    after: timedelta  # measured from the previous step; a longer clock of the transfer's priority wins


@dataclass(frozen=True, slots=True)
class Route:
    """How a party receives one service: first address, its backups in order, and the line that always answers (R6)."""

    service: str
    unit: str | None
    first: str  # Address.id
    backups: tuple[BackupStep, ...]
    last_resort_line: str
    line_name: str


@dataclass(frozen=True, slots=True)
class Party:
    """A coalition member, from its manifest."""

    id: PartyId
    name: str
    kind: str
    organization_type: str
    region: str
    status_view: StatusView
    units: tuple[Unit, ...]
    shelves: tuple[ShelfId, ...]
    addresses: tuple[Address, ...]
    services: frozenset[str]  # those it owns: it alone may offer, promise or name an amount (R11)
    routes: tuple[Route, ...]
    colocated: str | None = None
    notices: frozenset[str] = frozenset()  # shown before anyone consents to this party, beyond those of the consent scope
    age_line: int = 16  # under this age a report to a society is mandatory here (R16)
    permission_services: frozenset[str] = frozenset()  # services for which a guardian's permission is a rule of this party's program
    permission_under: int = 0  # under which age
    preferred_with: frozenset[str] = frozenset()  # consent scopes and cultural needs that name this party before others of its kind

    def shelf_of(self, unit: str | None) -> ShelfId:
        """The shelf a token for `unit` names."""
        own = unit is not None and any(u.id == unit and u.own_shelf for u in self.units)
        return ShelfId(f"{self.id}/{unit}") if own else ShelfId(self.id)

    def view_of(self, shelf: ShelfId) -> StatusView:
        """How much of a transfer's course one of its shelves is shown as a sender. A unit that shares a room with others has the minimal
        view, whatever the rest of its party has (R17). One shelf has one view: everybody who reads it reads the same."""
        unit = shelf.partition("/")[2]
        shared = any(each.id == unit and each.colocated is not None for each in self.units)
        return StatusView.MINIMAL if shared else self.status_view


@dataclass(frozen=True, slots=True)
class Agreement:
    """A data-sharing agreement: the parties it joins, within one region or across the regions it names."""

    id: str
    parties: frozenset[PartyId]
    regions: frozenset[str]
    starts: int  # ms
    ends: int | None


@dataclass(frozen=True, slots=True)
class ClassRule:
    """What one matrix row allows of one data class."""

    data_class: str
    only: frozenset[str] | None = None  # codes that may go; None = all
    scope: str | None = None  # a further consent scope this class needs (share-legal-name, vpst-referral)
    from_state: str | None = None  # released once the transfer has reached this state
    live: bool = False  # follows the sender's changes while the transfer is open


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """One row of the disclosure matrix. Anything not listed is denied."""

    id: str
    sender_kind: str
    receiver_kind: str
    basis: str
    scope: str | None  # consent scope, None for a basis that needs none
    services: frozenset[str]
    classes: Mapping[str, ClassRule]
    purposes: frozenset[str]
    cross_region: bool = False
    status_view: StatusView | None = None  # narrower than the sender's own, for this row
    returns_decision: bool = True  # whether the receiver's decision code goes back to the sender
    region: str = ""  # whose senders it is for; "" = any
    age_bands: frozenset[str] | None = None  # the only age bands it is for; a person whose age is not said is in none of them
    requires_yes: frozenset[str] = frozenset()  # yes-or-no classes to which the sender must have said yes
    without_labels: frozenset[str] = frozenset()  # sensitivity codes that its copies do not carry
    obligations: tuple[str, ...] = ()  # v3-ActCode, beyond those that every copy carries
    life: timedelta | None = None  # how long its copies may be read, where no consent says so
    human_review: bool = False  # nothing goes: a named human of the receiver answers by hand


@dataclass(frozen=True, slots=True)
class ConsentScope:
    """A thing a survivor can agree to, one conversation each."""

    id: str
    purposes: frozenset[str]
    lifetime: timedelta | None  # None = until withdrawn (asked again after `asked_again`)
    notices: frozenset[str]  # notices that must have been shown
    self_recording_kinds: frozenset[str]  # kinds that may record it for themselves (R19)
    names_unit: bool  # the receiver must be a unit, not a whole party
    asked_again: timedelta | None = None  # how long after giving it the survivor is asked again; the consent itself goes on


@dataclass(frozen=True, slots=True)
class Basis:
    """A legal basis: law as data, confirmed by counsel or not, on or off."""

    id: str
    authority: str
    needs_consent: bool
    invoked_by: frozenset[str]  # kinds
    verification: Verification
    enabled: bool


@dataclass(frozen=True, slots=True)
class ClockRule:
    """One deadline: starts on entering `state`, for these services and priorities, and runs while the transfer stays in `during`."""

    id: str
    state: str
    services: frozenset[str] | None
    priorities: frozenset[str] | None
    due: timedelta
    then: str  # what happens: backup (the next step, or the line when none is left), remind, escalate, line, breach
    during: frozenset[str] = frozenset()  # states that keep it running; always holds `state`
    stopped_by: frozenset[str] = frozenset()  # task-output codes that stop it whatever the state
    after_eta: timedelta | None = None  # when an arrival time is known, due this long after it instead
    business_days: bool = False  # `due` counts whole business days of the region
    region: str = ""  # whose transfers it is for (the receiver's region); "" = any
    except_regions: frozenset[str] = frozenset()  # regions that have another deadline in its place


@dataclass(frozen=True, slots=True)
class Service:
    """What can be asked for, and who alone may offer it."""

    id: str
    name: str
    owners: frozenset[PartyId]
    needs: frozenset[str]  # need codes this service may be told of (a row may narrow further)


class SelectorKind(StrEnum):
    """Where the values of a data class stand in the resources a sender writes."""

    ELEMENT = "element"  # items of an element of a resource, filtered by `where`, keeping only `keep`
    EXTENSION = "extension"  # one extension by url
    AGE = "age"  # the age band that a birth date at `element` makes, for an extension by url
    INPUT = "input"  # Task.input items whose type has the code `element`
    OUTPUT = "output"  # Task.output items whose type has the code `element`: written by the receiver, goes back to the sender
    HUB = "hub"  # made by the hub itself (pid, status, contact card)


@dataclass(frozen=True, slots=True)
class Selector:
    """Where one part of a class stands. All of it is copied by name; nothing else is.

    Paths are dotted and pass through arrays: ``language.coding.code`` is every code of every coding of `language`.
    """

    kind: SelectorKind
    resource: str
    element: str = ""  # element name, extension url, or input or output code
    where: Mapping[str, frozenset[str]] = field(default_factory=dict)  # path in the item -> it goes if any value there is one of these
    keep: tuple[str, ...] = ()  # paths in the item that are copied (ELEMENT); none = a primitive, copied as it stands
    extensions: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Extensions of the item that are copied (ELEMENT): url -> part -> value paths; part "" = the extension's own value."""
    value: str = ""  # value[x] element copied (EXTENSION, INPUT, OUTPUT), such as valueCode
    system: str = ""  # code system of a coded value
    codes: frozenset[str] | None = None  # codes known; an unknown one is refused at ingest
    codes_at: tuple[str, ...] = ()  # where the codes of an item stand (ELEMENT), for a row that lets only some of them go
    max_length: int = 0  # for text values
    extension: str = ""  # url of the extension that is made (AGE)
    ages: Mapping[str, int] = field(default_factory=dict)  # band -> the age it begins with (AGE)


class Treatment(StrEnum):
    """What happens to an element that a client sends."""

    KEEP = "keep"
    DROP = "drop"  # taken out before storage and counted: it carries nothing that a decision depends on
    NARRATIVE = "narrative"  # free text: refused as narrative-not-allowed
    FORBIDDEN = "forbidden"  # refused as forbidden-element


@dataclass(frozen=True, slots=True)
class ElementRule:
    """One element of the ingest allow-list. A member that no rule names is refused, as `gateway.parties.ingest` says."""

    treatment: Treatment = Treatment.KEEP
    children: Mapping[str, ElementRule] = field(default_factory=dict)  # members it may have; none = a primitive
    by: str = ""  # path in an item of the array to what tells its items apart (use, url, type.coding.code)
    items: Mapping[str, ElementRule] = field(default_factory=dict)  # value found there -> rule of that item
    otherwise: str = "forbidden-element"  # refusal of an item that `items` does not list
    systems: Mapping[str, frozenset[str]] = field(default_factory=dict)  # a Coding's systems, each with the codes known of it
    codes: frozenset[str] | None = None  # a code's only values
    max_length: int = 0  # of a text that is allowed


@dataclass(frozen=True, slots=True)
class DataClass:
    """A unit of minimum necessary."""

    id: str
    selectors: tuple[Selector, ...]
    confidentiality: str  # N, R, V
    sensitivity: tuple[str, ...]
    live: bool  # alias, language ... follow changes; needs, reason ... are snapshots
    sensitivity_of: Mapping[str, frozenset[str]] = field(default_factory=dict)  # further sensitivity code -> values that bring it
    unlabelled_with: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Another class -> values of it, with nothing else in it, that take `sensitivity` away."""


class Binding(StrEnum):
    """What a client's tokens must be bound to, so that a stolen one is worth nothing."""

    NONE = "none"
    DPOP = "dpop"  # a key that the client proves with each request (RFC 9449)
    MTLS = "mtls"  # the certificate of its TLS connection (RFC 8705 section 3)


@dataclass(frozen=True, slots=True)
class Client:
    """A registered OAuth client: one token, one shelf."""

    id: ClientId
    party: PartyId
    unit: str | None
    role: str
    device_owner: str
    purposes: frozenset[str]
    scopes: frozenset[str]  # action scopes and SMART v2 scopes it may ask for
    jwks_url: str | None
    jwks: Mapping[str, object] | None
    binding: Binding = Binding.NONE
    colocated: str | None = None  # the kind of party whose room or device its staff share (R17)
    manages_tokens: bool = False  # may introspect and revoke the tokens of its party's other clients
    tokens_from: int = 0  # real seconds: access tokens issued before it do not count


@dataclass(frozen=True, slots=True)
class Kind:
    """What every party of a kind may do its roles, each with the action scopes a client in it may register."""

    id: str
    scopes_of: Mapping[str, frozenset[str]]  # role -> action scopes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The part of a manifest that is about the adapter and not about the party."""

    party: PartyId
    contract: int  # version of `gateway.adapter_api` it was written for
    folder: str  # adapters/<folder>
    module: str | None  # file in the folder with `adapter(...)`; None = the transport's own client is enough
    transport: Transport
    consent_profile: str
    agreements: frozenset[str]
    capabilities: Mapping[str, str]  # capability -> full, partial, planned or unsupported
    settings: tuple[str, ...]  # names of the settings it reads; values live in the environment
    owners: tuple[str, ...]  # role addresses of those who answer for it


@dataclass(frozen=True, slots=True)
class Policy:
    """All configuration in force, compiled once. `epoch` changes when anything in it does."""

    version: str
    epoch: int
    parties: Mapping[PartyId, Party]
    addresses: Mapping[str, Address]
    services: Mapping[str, Service]
    agreements: tuple[Agreement, ...]
    rows: tuple[MatrixRow, ...]
    scopes: Mapping[str, ConsentScope]
    bases: Mapping[str, Basis]
    clocks: tuple[ClockRule, ...]
    classes: Mapping[str, DataClass]
    forbidden: Mapping[str, str]  # forbidden input/identifier code -> class name
    ingest: Mapping[str, Mapping[str, ElementRule]]  # resource type -> member -> rule
    mixed_units: frozenset[str]  # names that are never an address (R17)
    clients: Mapping[ClientId, Client]
    endpoints: Mapping[ShelfId, Endpoint]
    timezones: Mapping[str, str]  # region -> IANA name
    codes: Mapping[str, frozenset[str]]  # local code system name -> its codes
    displays: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # code system name -> code -> words for a person
    purposes: Mapping[str, str] = field(default_factory=dict)  # purpose of use -> its code system url
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)  # named sets of data classes, such as base
    always: frozenset[str] = frozenset()  # classes that go with every permit and need no grant (envelope, pid, urgency, hub-made)
    forbidden_elements: Mapping[str, str] = field(default_factory=dict)  # Type.element -> forbidden class
    narrative: frozenset[str] = frozenset()  # element names that hold free text wherever they stand
    device_refusals: Mapping[str, frozenset[str]] = field(default_factory=dict)  # owner of a device -> roles refused on it (R18)
    manifests: Mapping[PartyId, Manifest] = field(default_factory=dict)
    suspended: frozenset[PartyId] = frozenset()  # cut off by the operator: nothing new is sent there

    def address_shelf(self, address: str) -> ShelfId | None:
        """The shelf that an address belongs to, or None when there is no such address."""
        found = self.addresses.get(address)
        return found.shelf if found else None
