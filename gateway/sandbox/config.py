"""A development configuration: keys, clients and addresses for one demo region, and the settings of its hub. Made new for every run.

FOLDER/registry.yaml        clients (public keys only) and the addresses of the partners' systems
FOLDER/systems/<party>.json one system's own settings; its private key (a JWK) beside it
FOLDER/hub/                 signing key, wrapping key, audit key, and `hub.env` for `gateway serve`
FOLDER/clock                business time, when a scenario sets it
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import ECKey

from gateway.oauth.keys import generate_signing_key, public_jwk
from gateway.parties.errors import Mistakes
from gateway.parties.schema import checker
from gateway.parties.yaml_lines import read

__all__ = ["HUB_CLIENT", "HUB_SCOPE", "ROOT", "DemoConfig", "Ports", "Region", "System", "SystemConfig", "load_region", "make_config"]

ROOT: Final = Path(__file__).resolve().parents[2]
"""The folder that holds adapters/, consent_profiles/, mappings/ and deploy/."""

DEMO: Final = ROOT / "deploy" / "demo"

HUB_CLIENT: Final = "coalition-hub"
"""The name that a partner's own authorization server gave the hub."""

HUB_SCOPE: Final = "system/Bundle.c"


@dataclass(frozen=True, slots=True)
class System:
    """One partner's system, as the region's file describes it."""

    party: str
    unit: str | None
    title: str
    short: str
    role: str
    device_owner: str
    receives: str
    lets_in: str  # how the hub shows it who it is: hub-statement or smart-backend
    lists_people: bool
    purposes: tuple[str, ...]
    scopes: tuple[str, ...]

    @property
    def client_id(self) -> str:
        """The name under which it is registered at the hub."""
        return f"{self.party}-system"


@dataclass(frozen=True, slots=True)
class Region:
    """A demo region: which systems there are."""

    id: str
    systems: tuple[System, ...]


def load_region(file: Path = DEMO / "region.yaml") -> Region:
    """Read and check a region's file. Raises ConfigurationError with every mistake, its file and line."""
    mistakes = Mistakes(ROOT)
    document = read(file, mistakes)
    mistakes.stop_if_any()
    checker(DEMO / "schemas", "region")(document, mistakes)
    mistakes.stop_if_any()
    systems = tuple(
        System(
            party=item["party"],
            unit=item.get("unit"),
            title=item["title"],
            short=item["short"],
            role=item["role"],
            device_owner=item["device-owner"],
            receives=item["receives"],
            lets_in=item["lets-in"],
            lists_people=item["lists-people"],
            purposes=tuple(item["purposes"]),
            scopes=tuple(item["scopes"]),
        )
        for item in document.data["systems"]
    )
    return Region(document.data["region"], systems)


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports: the hub's, the text gateway's, and one a party."""

    hub: int
    phone: int
    systems: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SystemConfig:
    """What one system's process is told."""

    party: str
    client_id: str
    hub: str  # FHIR base
    port: int
    scopes: tuple[str, ...]
    lists_people: bool
    key_file: Path
    ledger: Path
    clock: Path | None
    address: str  # where the hub reaches it, as registered
    hub_keys: dict[str, Any] | None  # the hub's public keys as its client; None = it takes the hub's statement

    @property
    def origin(self) -> str:
        """Where its server is."""
        return f"http://127.0.0.1:{self.port}"

    @classmethod
    def load(cls, file: Path) -> SystemConfig:
        """Read what `save` wrote. Raises OSError, ValueError or TypeError."""
        data: dict[str, Any] = orjson.loads(file.read_bytes())
        paths = {name: Path(data[name]) if data[name] is not None else None for name in ("key_file", "ledger", "clock")}
        return cls(**{**data, **paths, "scopes": tuple(data["scopes"])})

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        file.write_bytes(orjson.dumps(asdict(self), default=str))

    def private_key(self) -> ec.EllipticCurvePrivateKey:
        """The system's own ES384 key."""
        key = ECKey.import_key(orjson.loads(self.key_file.read_bytes())).private_key
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError("the key file holds no private EC key")
        return key


@dataclass(frozen=True, slots=True)
class DemoConfig:
    """Everything that was made."""

    folder: Path
    origin: str
    environment: Mapping[str, str]
    systems: Mapping[str, Path]
    clock: Path
    phone: str

    @property
    def env_file(self) -> Path:
        """The hub's settings, for `GATEWAY_ENV_FILE`."""
        return self.folder / "hub" / "hub.env"


def make_config(folder: Path, region: Region, ports: Ports, *, database: Mapping[str, str] | None = None) -> DemoConfig:
    """Write the whole configuration. `database`: the hub's database settings; without it a new SQLite file in the folder."""
    origin = f"http://127.0.0.1:{ports.hub}"
    clock = folder / "clock"
    (folder / "systems").mkdir(parents=True, exist_ok=True)
    (folder / "hub").mkdir(exist_ok=True)
    clients, endpoints, systems = [], [], {}
    for system in region.systems:
        private = ec.generate_private_key(ec.SECP384R1())
        key_file = folder / "systems" / f"{system.party}.key.json"
        _secret(key_file, orjson.dumps({**ECKey.import_key(private).as_dict(private=True), "alg": "ES384", "use": "sig"}))
        clients.append(_client(system, public_jwk(private, None, "ES384")))
        endpoint, hub_keys = _endpoint(system, ports.systems[system.party], folder)
        endpoints.append(endpoint)
        config = SystemConfig(
            party=system.party,
            client_id=system.client_id,
            hub=f"{origin}/fhir",
            port=ports.systems[system.party],
            scopes=system.scopes,
            lists_people=system.lists_people,
            key_file=key_file,
            ledger=folder / "systems" / f"{system.party}.ledger.jsonl",
            clock=clock,
            address=endpoint["address"],
            hub_keys=hub_keys,
        )
        systems[system.party] = folder / "systems" / f"{system.party}.json"
        config.save(systems[system.party])
    registry = folder / "registry.yaml"
    # JSON is YAML, and the loader takes it as such.
    registry.write_bytes(orjson.dumps({"clients": clients, "endpoints": endpoints}, option=orjson.OPT_INDENT_2))
    environment = {
        **_hub_keys(folder / "hub"),
        "GATEWAY_BASE_URL": origin,
        "GATEWAY_PORT": str(ports.hub),
        "GATEWAY_CONFIG_ROOT": str(ROOT),
        "GATEWAY_REGISTRY": str(registry),
        "GATEWAY_REGIONS": orjson.dumps([region.id]).decode(),
        "GATEWAY_AUDIT_ORIGIN": "sandbox.coalition-hub.example/audit",
        "GATEWAY_TEXT_SERVICE_URL": f"http://127.0.0.1:{ports.phone}/messages",
        "GATEWAY_SWEEP_SECONDS": "0.05",
        "GATEWAY_SANDBOX": "true",
        **{f"GATEWAY_RATE_{name}": "1000000" for name in ("SOURCE", "CLIENT", "TOKENS", "FAILURES")},  # everybody is one address here
        "GATEWAY_SANDBOX_CLOCK": str(clock),
        **(database or {"GATEWAY_DATABASE_URL": f"sqlite:///{folder / 'hub' / 'gateway.db'}"}),
    }
    made = DemoConfig(folder, origin, environment, systems, clock, f"http://127.0.0.1:{ports.phone}")
    _secret(made.env_file, "".join(f"{name}='{value}'\n" for name, value in environment.items()).encode())
    return made


def _client(system: System, key: Mapping[str, Any]) -> dict[str, Any]:
    unit = {} if system.unit is None else {"unit": system.unit}
    return {
        "client-id": system.client_id,
        "party": system.party,
        **unit,
        "role": system.role,
        "device-owner": system.device_owner,
        "purposes": list(system.purposes),
        "scopes": list(system.scopes),
        "jwks": {"keys": [key]},
    }


def _endpoint(system: System, port: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """An endpoint for the registry; and for a system that is a SMART server itself, the hub's public keys as its client."""
    shelf = system.party if system.unit is None else f"{system.party}/{system.unit}"
    path = "fhir" if system.receives == "fhir-push" else "notify"
    origin = f"http://127.0.0.1:{port}"
    endpoint: dict[str, Any] = {"shelf": shelf, "transport": system.receives, "address": f"{origin}/{path}"}
    if system.lets_in == "hub-statement":
        return endpoint, None
    private = ec.generate_private_key(ec.SECP384R1())
    key_file = folder / "hub" / f"at-{system.party}.pem"
    _secret(key_file, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    endpoint["auth"] = {
        "kind": system.lets_in,
        "token-url": f"{origin}/oauth/token",
        "client-id": HUB_CLIENT,
        "scope": HUB_SCOPE,
        "key-file": str(key_file.relative_to(folder)),
    }
    return endpoint, {"keys": [public_jwk(private, None, "ES384")]}


def _hub_keys(folder: Path) -> dict[str, str]:
    """The hub's own secrets: what signs tokens, what wraps data keys, what signs the audit log."""
    generate_signing_key(folder / "signing", "first")
    _secret(folder / "secret.key", secrets.token_bytes(32))
    audit = ed25519.Ed25519PrivateKey.generate()
    _secret(folder / "audit.pem", audit.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {
        "GATEWAY_SIGNING_KEYS": str(folder / "signing"),
        "GATEWAY_SECRET_KEY": str(folder / "secret.key"),
        "GATEWAY_AUDIT_KEY": str(folder / "audit.pem"),
    }


def _secret(file: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(content)
