"""Loads a party's adapter from its folder, by path, where its manifest names a module. The core imports no adapter."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

from gateway.adapter_api import OutboundAdapter
from gateway.identity import PartyId
from gateway.parties.errors import ConfigurationError, Mistakes
from gateway.parties.model import Manifest, Policy

__all__ = ["load_adapters"]


def load_adapters(policy: Policy, root: Path, environment: Mapping[str, str]) -> dict[PartyId, OutboundAdapter]:
    """The adapters of all parties whose manifest names a module; the others are served by their transport alone.

    An adapter is given only the settings that its manifest names. Raises `ConfigurationError` for one that is missing, cannot be
    imported, or defines no ``adapter``; what a module or a factory says about it is not repeated, since it may hold a secret.
    """
    mistakes = Mistakes(root.resolve())
    adapters = {}
    for party, manifest in policy.manifests.items():
        if manifest.module is not None:
            made = _load(manifest, root.resolve(), environment, mistakes)
            if made is not None:
                adapters[party] = made
    mistakes.stop_if_any()
    return adapters


def _load(manifest: Manifest, root: Path, environment: Mapping[str, str], mistakes: Mistakes) -> OutboundAdapter | None:
    file = root / "adapters" / manifest.folder / (manifest.module or "")
    missing = [name for name in manifest.settings if name not in environment]
    for name in missing:
        mistakes.add(file.parent / "manifest.yaml", 1, f"the setting {name} is not set")
    if missing:
        return None
    name = "coalition_adapters." + "".join(c if c.isalnum() else "_" for c in manifest.folder)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        mistakes.add(file, 1, "cannot be imported")
        return None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        factory = getattr(module, "adapter", None)
        if not callable(factory):
            mistakes.add(file, 1, "defines no 'adapter'")
            return None
        made = factory({name: environment[name] for name in manifest.settings})
    except ConfigurationError:
        raise
    except Exception as error:  # the edge to somebody else's code: whatever it raises stops the start, by type only
        mistakes.add(file, _line(error, file), f"cannot be loaded ({type(error).__name__})")
        return None
    if not callable(getattr(made, "deliver", None)):
        mistakes.add(file, 1, "'adapter' made something without 'deliver'")
        return None
    adapter: OutboundAdapter = made
    return adapter


def _line(error: Exception, file: Path) -> int:
    """The last line of the adapter's own file that the error passed through."""
    if isinstance(error, SyntaxError) and error.lineno:
        return error.lineno
    line, trace = 1, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
