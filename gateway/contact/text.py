"""Is this text fit to reach her phone? No last names, no titles, no agency, no service (R12). Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise
from typing import Final

from gateway.parties.model import Policy

__all__ = ["CALL_ME", "LIMIT", "telling"]

LIMIT: Final = 160
CALL_ME: Final = re.compile(
    r"(hi|hello|hey)?[ ,]*[a-z-]{0,30}[ ,]*(please )?call me( when (you )?(are )?(ok|can|free))?[.! ]*", re.IGNORECASE
)
"""The one text that goes where `no-text-content` is set."""

_TITLES: Final = re.compile(
    r"\b(mr|mrs|ms|miss|mx|dr|doctor|prof|officer|constable|cst|sergeant|sgt|detective|det|inspector|nurse|counsell?or"
    r"|case ?worker|social worker|police|mme|mlle|m\.|agente?|infirmi[eè]re?|travailleuse)\b\.?",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"[a-z0-9]+")
_PLAIN: Final = re.compile(r"[A-Za-z0-9À-ÖØ-öø-ÿŒœ .,;:!?'’()\-\n]*")
"""Letters of English and French, digits and plain punctuation: a letter that only looks like one of these is not let through."""

_NUMBER: Final = re.compile(r"(?:\d[ .\-]?){5,}")
"""A telephone number tells whose it is. A time or a date is shorter."""


def telling(text: str, policy: Policy, family_names: Iterable[str] = ()) -> bool:
    """Whether a text says a title, a last name known here, a number to call, or the name of an agency or a service.

    Read as the eye reads it: compatibility forms are folded, and a text with letters of other scripts, with marks that can't be
    seen or with other signs counts as telling.
    """
    text = unicodedata.normalize("NFKC", text)
    if _PLAIN.fullmatch(text) is None or _NUMBER.search(text):
        return True
    words = _WORD.findall(text.lower())
    if _TITLES.search(text):
        return True
    said = set(words) | {f"{a} {b}" for a, b in pairwise(words)}
    named = {word for name in family_names for word in _WORD.findall(name.lower())}
    return bool(said & (_names(policy.epoch, _sources(policy)) | named))


def _sources(policy: Policy) -> tuple[str, ...]:
    parties = [name for p in policy.parties.values() for name in (p.id, p.name, *(u.name for u in p.units))]
    return (*parties, *(name for s in policy.services.values() for name in (s.id, s.name)), *policy.mixed_units)


@lru_cache(maxsize=4)
def _names(_: int, sources: tuple[str, ...]) -> frozenset[str]:
    """Pairs of words of every name, and names of one word."""
    found: set[str] = set()
    for source in sources:
        words = _WORD.findall(source.lower())
        found.update(f"{a} {b}" for a, b in pairwise(words))
        if len(words) == 1 and len(words[0]) > 2:
            found.add(words[0])
    return frozenset(found)
