"""Every setting of the hub, in one class. Read from the environment (`GATEWAY_...`) or a file named by `GATEWAY_ENV_FILE`."""

from __future__ import annotations

import os
from ipaddress import ip_network
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["Settings", "load_settings"]

_ROOT = Path(__file__).resolve().parent.parent


class Settings(BaseSettings):
    """Settings of one server process. A mistake stops the hub with the name of the setting."""

    model_config = SettingsConfigDict(env_prefix="GATEWAY_", extra="forbid", frozen=True)

    base_url: str = Field("http://127.0.0.1:8000", description="The address under which partners reach the hub, without a trailing slash.")
    host: str = Field("127.0.0.1", description="The address the server listens on.")
    port: int = Field(8000, ge=0, le=65535, description="The port the server listens on.")
    tls_certificate: Path | None = Field(None, description="The server's certificate chain (PEM): with its key, the server speaks TLS.")
    tls_key: Path | None = Field(None, description="The private key (PEM) of the server's certificate.")
    tls_client_ca: Path | None = Field(None, description="Who may certify clients (PEM): with it, clients are asked for a certificate.")
    tls_client_required: bool = Field(False, description="Refuse TLS connections without a client certificate.")
    trusted_proxies: list[str] | None = Field(None, description="Addresses or networks of the proxies whose headers about clients count.")
    certificate_header: str | None = Field(None, description="The header in which a trusted proxy puts the client's certificate.")
    database_url: str = Field("sqlite:///var/gateway.db", description="sqlite:///PATH, or postgresql://... for the writing role.")
    database_reader_url: str | None = Field(None, description="PostgreSQL: the reading role, bound by row-level security.")
    database_owner_url: str | None = Field(None, description="PostgreSQL: the owner, used by `gateway migrate` alone.")
    keys_url: str | None = Field(None, description="PostgreSQL: the key store's own database, for the writing role.")
    keys_owner_url: str | None = Field(None, description="PostgreSQL: the key store's owner, used by `gateway migrate` alone.")
    config_root: Path = Field(_ROOT, description="The folder that holds adapters/, consent_profiles/ and mappings/.")
    registry: Path | None = Field(None, description="The file of registered clients and endpoints.")
    regions: list[str] | None = Field(None, description="The regions served; all of the configuration when not given.")
    signing_keys: Path = Field(Path("var/signing"), description="The folder of the hub's token-signing keys (PEM, ES256).")
    secret_key: Path = Field(Path("var/secret.key"), description="The file of the 32-byte key that wraps data keys.")
    audit_key: Path = Field(Path("var/audit.pem"), description="The Ed25519 key (PEM) that signs checkpoints of the audit log.")
    audit_origin: str = Field("coalition-hub.example/audit", description="The name of the audit log in its checkpoints.")
    text_service_url: str | None = Field(None, description="Where texts to survivors are handed over; without it none are sent.")
    sweep_seconds: float = Field(0.25, gt=0, le=60, description="Seconds between looks at the delivery ledger when nothing calls.")
    lease_seconds: float = Field(30, gt=0, description="Seconds a claimed delivery belongs to its worker.")
    rate_source: float = Field(200, gt=0, le=1e6, description="Requests a second from one source; five seconds' worth at once.")
    rate_client: float = Field(100, gt=0, le=1e6, description="Calls a second by one client; five seconds' worth at once.")
    rate_tokens: float = Field(60, gt=0, le=1e8, description="Access tokens a minute for one client; at least twenty at once.")
    rate_failures: float = Field(10, gt=0, le=1e8, description="Failed authentications a minute from one source for one client.")
    even_answer_seconds: float = Field(0.25, ge=0, le=0.9, description="Seconds before which taking a consent back is not answered.")
    sandbox: bool = Field(False, description="Loopback http and a settable clock are allowed. Never where real people are served.")
    sandbox_clock: Path | None = Field(None, description="The file that holds business time. Only in the sandbox.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.sandbox_clock is not None and not self.sandbox:
            raise ValueError("sandbox_clock: business time can be set only in the sandbox")
        if not self.sandbox and not self.base_url.startswith("https://"):
            raise ValueError("base_url: must be https outside the sandbox")
        if not self.sandbox and self.text_service_url is not None and not self.text_service_url.startswith("https://"):
            raise ValueError("text_service_url: must be https outside the sandbox: it carries her number")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate: the certificate and tls_key go together")
        if self.tls_certificate is not None and not self.base_url.startswith("https://"):
            raise ValueError("base_url: must be https when the server speaks TLS")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca: needs tls_certificate and tls_key")
        if self.tls_client_required and self.tls_client_ca is None:
            raise ValueError("tls_client_required: needs tls_client_ca")
        if self.certificate_header is not None and not self.trusted_proxies:
            raise ValueError("certificate_header: needs trusted_proxies, or anybody could set it")
        if not all(_is_network(proxy) for proxy in self.trusted_proxies or ()):
            raise ValueError("trusted_proxies: each must be an address or a network, such as 10.0.0.5 or 10.0.0.0/24")
        if self.base_url.endswith("/"):
            raise ValueError("base_url: without a trailing slash")
        if self.database_url.startswith("postgresql://") and not (self.database_reader_url and self.keys_url):
            raise ValueError("database_url: PostgreSQL needs database_reader_url and keys_url too")
        if not self.database_url.startswith(("postgresql://", "sqlite:///")):
            raise ValueError("database_url: must be sqlite:/// or postgresql://")
        return self

    @property
    def sqlite_path(self) -> Path | None:
        """The SQLite file, if that is the database."""
        return Path(self.database_url.removeprefix("sqlite:///")) if self.database_url.startswith("sqlite:///") else None


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def load_settings() -> Settings:
    """From the environment, and the file that `GATEWAY_ENV_FILE` names. Raises pydantic.ValidationError."""
    file = os.environ.get("GATEWAY_ENV_FILE")
    return Settings(_env_file=file) if file else Settings()
