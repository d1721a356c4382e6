"""Adapters are loaded by path where a manifest says so, and given only the settings it names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway import adapter_api
from gateway.adapter_api import Final, NeedsPerson, TryAgain
from gateway.parties.adapters import load_adapters
from gateway.parties.errors import ConfigurationError
from gateway.parties.load import load_policy
from gateway.parties.model import Policy
from tests.unit.parties.conftest import ROOT, Spoil

MANIFEST = "adapters/lakeridge/manifest.yaml"
GOOD = """
from gateway.adapter_api import Receipt, Release, Transport


class Adapter:
    def __init__(self, settings):
        self.settings = dict(settings)

    async def deliver(self, release: Release, transport: Transport) -> Receipt:
        return Receipt()


def adapter(settings):
    return Adapter(settings)
"""
SET = {"LAKERIDGE_FHIR_ADDRESS": "https://x.example", "LAKERIDGE_OAUTH_KEY_FILE": "/x", "OTHER": "c2VjcmV0"}


@pytest.fixture
def with_module(tree: Path, spoil: Spoil) -> Path:
    spoil(MANIFEST, "transport: fhir-push", "transport: fhir-push\nmodule: adapter.py")
    (tree / "adapters" / "lakeridge" / "adapter.py").write_text(GOOD)
    return tree


def test_a_manifest_without_a_module_needs_no_adapter(policy: Policy) -> None:
    assert load_adapters(policy, ROOT, {}) == {}


def test_a_module_is_loaded_and_sees_only_its_own_settings(with_module: Path) -> None:
    policy = load_policy(with_module, registry=None)

    (adapter,) = load_adapters(policy, with_module, SET).values()

    assert vars(adapter)["settings"] == {name: value for name, value in SET.items() if name != "OTHER"}
    assert not any(name.startswith("coalition_adapters") for name in sys.modules)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("def adapter(settings):\n    raise ValueError(settings)\n", 2),
        ("import nothing_of_that_name\n", 1),
        ("def adapter(\n", 1),
        ("x = 1\n", 1),
        ("def adapter(settings):\n    return object()\n", 1),
    ],
)
def test_an_adapter_that_does_not_load_stops_the_start_without_a_value(source: str, line: int, with_module: Path) -> None:
    (with_module / "adapters" / "lakeridge" / "adapter.py").write_text(source)
    policy = load_policy(with_module, registry=None)

    with pytest.raises(ConfigurationError) as caught:
        load_adapters(policy, with_module, {**SET, "LAKERIDGE_OAUTH_KEY_FILE": "c2VjcmV0"})

    assert caught.value.mistakes[0].line == line
    assert "c2VjcmV0" not in str(caught.value)


def test_a_setting_that_is_not_set_stops_the_start(with_module: Path) -> None:
    policy = load_policy(with_module, registry=None)

    with pytest.raises(ConfigurationError, match="LAKERIDGE_FHIR_ADDRESS is not set"):
        load_adapters(policy, with_module, {})


@pytest.mark.parametrize("kind", [TryAgain, NeedsPerson, Final])
def test_a_reason_is_a_word_and_never_a_text_from_a_partner(kind: type[adapter_api.DeliveryFailure]) -> None:
    assert kind("queue-full").reason == "queue-full"
    with pytest.raises(ValueError, match="a reason is a word"):
        kind("Patient Zz-Robin not found")


def test_what_is_public_is_listed() -> None:
    own = {n for n, x in vars(adapter_api).items() if getattr(x, "__module__", "") == adapter_api.__name__ and not n.startswith("_")}

    assert own | {"CONTRACT_VERSION", "OLDEST_CONTRACT"} == set(adapter_api.__all__)
