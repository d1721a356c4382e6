"""Settings: each is documented as it is, each rule between them holds, and a production hub takes neither plain http nor a set clock."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gateway.app import create_app
from gateway.cli import app
from gateway.settings import Settings, load_settings
from tests.integration.world import open_world, settings_for

PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"
PRODUCTION: dict[str, Any] = {"base_url": "https://hub.example"}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine's own."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"GATEWAY_{name.upper()}", raising=False)
    monkeypatch.delenv("GATEWAY_ENV_FILE", raising=False)


def documented() -> dict[str, tuple[str, str]]:
    """Setting -> default and meaning, as the page has them."""
    found = re.findall(r"^\| `(GATEWAY_[A-Z_]+)` \| (.*?) \| (.*) \|$", PAGE.read_text(), re.M)
    assert len(found) == len({name for name, _, _ in found})
    return {name: (default, meaning) for name, default, meaning in found}


def shown(name: str, default: Any) -> str:
    if name == "config_root":
        return "where the hub is installed"
    return "none" if default is None else f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_page_has_every_setting_with_its_default_and_meaning_and_no_other() -> None:
    assert documented() == {
        f"GATEWAY_{name.upper()}": (shown(name, field.default), field.description) for name, field in Settings.model_fields.items()
    }


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a set clock in production": ({**PRODUCTION, "sandbox_clock": "clock"}, "sandbox_clock"),
    "http in production": ({"base_url": "http://hub.example"}, "base_url"),
    "http on this machine in production": ({"base_url": "http://127.0.0.1:8000"}, "base_url"),
    "texts over http in production": ({**PRODUCTION, "text_service_url": "http://texts.example"}, "text_service_url"),
    "a slash at the end": ({"base_url": "https://hub.example/"}, "base_url"),
    "another database": ({**PRODUCTION, "database_url": "mysql://x"}, "database_url"),
    "PostgreSQL without its reader": ({**PRODUCTION, "database_url": "postgresql://x", "keys_url": "postgresql://y"}, "database_url"),
    "PostgreSQL without its keys": (
        {**PRODUCTION, "database_url": "postgresql://x", "database_reader_url": "postgresql://y"},
        "database_url",
    ),
    "a port beyond ports": ({**PRODUCTION, "port": 70_000}, "port"),
    "no sweep": ({**PRODUCTION, "sweep_seconds": 0}, "sweep_seconds"),
    "no lease": ({**PRODUCTION, "lease_seconds": 0}, "lease_seconds"),
    "a certificate without its key": ({**PRODUCTION, "tls_certificate": "c.pem"}, "tls_certificate"),
    "a key without its certificate": ({**PRODUCTION, "tls_key": "k.pem"}, "tls_certificate"),
    "http with TLS": ({"sandbox": True, "tls_certificate": "c.pem", "tls_key": "k.pem"}, "base_url"),
    "clients certified without TLS": ({**PRODUCTION, "tls_client_ca": "ca.pem"}, "tls_client_ca"),
    "certificates required of nobody": (
        {**PRODUCTION, "tls_certificate": "c.pem", "tls_key": "k.pem", "tls_client_required": True},
        "tls_client_required",
    ),
    "a certificate header for everybody": ({**PRODUCTION, "certificate_header": "client-cert"}, "certificate_header"),
    "a proxy that is no address": ({**PRODUCTION, "trusted_proxies": ["proxy.example"]}, "trusted_proxies"),
    "a setting that is none": ({**PRODUCTION, "sandboks": True}, "sandboks"),
}


@pytest.mark.parametrize("why", sorted(WRONG))
def test_what_does_not_fit_together_stops_the_hub_with_the_name_of_the_setting(why: str) -> None:
    values, name = WRONG[why]
    with pytest.raises(ValidationError) as caught:
        Settings(**values)
    assert name in str(caught.value.errors(include_input=False, include_url=False))


def test_the_least_that_production_needs_is_an_https_address() -> None:
    settings = Settings(**PRODUCTION)
    assert not settings.sandbox
    assert settings.sqlite_path == Path("var/gateway.db")


def test_settings_come_from_the_environment_and_from_the_file_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hub.env"
    file.write_text('GATEWAY_BASE_URL=https://from-file.example\nGATEWAY_REGIONS=["north"]\nGATEWAY_PORT=9000\n')
    monkeypatch.setenv("GATEWAY_ENV_FILE", str(file))
    monkeypatch.setenv("GATEWAY_PORT", "9001")
    settings = load_settings()
    assert (settings.base_url, settings.regions, settings.port) == ("https://from-file.example", ["north"], 9001)


def test_a_name_that_is_none_in_the_file_stops_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "hub.env"
    file.write_text("GATEWAY_BASE_URL=https://hub.example\nGATEWAY_SANDBOKS=true\n")
    monkeypatch.setenv("GATEWAY_ENV_FILE", str(file))
    with pytest.raises(ValidationError):
        load_settings()


def test_serving_with_wrong_settings_says_which_and_shows_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_BASE_URL", "http://zz-secret.example")
    monkeypatch.setattr("gateway.log.configure_logging", lambda: None)  # it would log for this whole process, to where this test is heard
    result = CliRunner().invoke(app, ["serve"])
    assert result.exit_code == 2
    assert "base_url" in result.output
    assert "zz-secret" not in result.output


async def test_a_production_hub_runs_on_the_machines_own_clock(tmp_path: Path) -> None:
    """The same files without the sandbox: the hub opens, and nothing of the scenario's clock is in it."""
    from gateway.app import open_hub
    from gateway.clock import SystemClock

    sandboxed = settings_for(tmp_path)
    settings = Settings(**{**sandboxed.model_dump(), "base_url": "https://hub.example", "sandbox": False, "sandbox_clock": None})
    async with open_hub(settings) as hub:
        assert isinstance(hub.parts.clock, SystemClock)


async def test_every_setting_that_names_a_file_is_looked_for_at_start(tmp_path: Path) -> None:
    for name in ("registry", "secret_key", "audit_key"):
        settings = settings_for(tmp_path / name)
        broken = Settings(**{**settings.model_dump(), name: tmp_path / "nowhere"})
        with pytest.raises(Exception) as caught:  # each says it in its own words; what counts is that it does not start
            async with open_world(broken):
                pass
        assert not isinstance(caught.value, AssertionError)


def test_the_application_is_put_together_without_touching_anything(tmp_path: Path) -> None:
    settings = Settings(**{**PRODUCTION, "database_url": f"sqlite:///{tmp_path}/none.db"})
    create_app(settings)
    assert list(tmp_path.iterdir()) == []
