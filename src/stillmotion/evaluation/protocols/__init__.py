"""Protocols: each `Protocol` in a module of this package, found by scanning; adding one is adding a file."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from stillmotion.errors import StillmotionError, check_known
from stillmotion.evaluation.protocols.base import Protocol, fits
from stillmotion.systems.base import System


def discover() -> dict[str, Protocol]:
    """Every `Protocol` of the modules of this package, by name."""
    modules = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
    return {value.name: value for module in modules for value in vars(module).values() if isinstance(value, Protocol)}


PROTOCOLS: Mapping[str, Protocol] = discover()


def find_protocol(name: str) -> Protocol:
    """Look a protocol up.

    Raises:
        StillmotionError: there is none of this name.
    """
    check_known("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]


def choose_protocol(name: str | None, models: Mapping[str, System]) -> Protocol:
    """The protocol of a name that fits all models; without a name, the one that they declare.

    Raises:
        StillmotionError: there is none of this name, it does not fit a model, or the models declare different ones.
    """
    if name is None:
        own = {model: system.protocol for model, system in models.items()}
        if len(set(own.values())) != 1:
            listed = ", ".join(f"{model}: {protocol}" for model, protocol in own.items()) or "there is no model"
            raise StillmotionError(f"The models have no protocol in common ({listed}); choose one with --protocol.")
        name = next(iter(own.values()))
    protocol = find_protocol(name)
    for system in models.values():
        check_fits(protocol, system)
    return protocol


def check_fits(protocol: Protocol, system: System) -> None:
    """Refuse a system that does not take what a protocol feeds.

    Raises:
        StillmotionError: names the protocols that fit.
    """
    if not fits(protocol, system):
        fitting = ", ".join(other.name for other in PROTOCOLS.values() if fits(other, system))
        fed = " or ".join(protocol.controls) or "any control of a clip"
        raise StillmotionError(
            f"The protocol {protocol.name!r} feeds {fed}, which the system {system.name} does not take; protocols "
            f"that fit it are {fitting or 'none'}."
        )
