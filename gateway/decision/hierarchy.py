"""Which published codes contain which: purposes of use and sensitivity labels (HL7 v3-ActReason and v3-ActCode, 2018-08-12).

Used for denials only. A survivor who says "not for treatment" also means "not for emergency treatment", so a deny covers
everything below its code; a permit covers exactly the code that was written, which is the narrower reading.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["CONFIDENTIALITY_RANK", "with_narrower"]

CONFIDENTIALITY_RANK: Final[Mapping[str, int]] = {"U": 0, "L": 1, "M": 2, "N": 3, "R": 4, "V": 5}
"""v3-Confidentiality from unrestricted to very restricted; the other codes of that system are deprecated and not understood."""

_NARROWER: Final[Mapping[str, tuple[str, ...]]] = {
    parent: tuple(children.split())
    for parent, children in {
        # v3-ActReason, below PurposeOfUse
        "PurposeOfUse": "HMARKT HOPERAT HPAYMT HRESCH PATRQT PUBHLTH TREAT",
        "HOPERAT": "CAREMGT DONAT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HOUTCOMS HPRGRP HQUALIMP HSYSADMIN MEMADMIN "
        "MILCDM PATADMIN PATSFTY PERFMSR RECORDMGT SYSDEV TRAIN",
        "HSYSADMIN": "LABELING METAMGT",
        "SYSDEV": "HTEST",
        "HPAYMT": "CLMATTCH COVAUTH COVERAGE REMITADV",
        "COVERAGE": "ELIGDTRM ELIGVER ENROLLM MILDCRG",
        "HRESCH": "BIORCH CLINTRCH DSRCH POARCH TRANSRCH",
        "CLINTRCH": "CLINTRCHNPC CLINTRCHPC PRECLINTRCH",
        "PATRQT": "FAMRQT PWATRNY SUPNWK",
        "PUBHLTH": "DISASTER THREAT",
        "TREAT": "CLINTRL COC ETREAT POPHLTH",
        "ETREAT": "BTG ERTREAT",
        # v3-ActCode, below _InformationSensitivityPolicy
        "_InformationSensitivityPolicy": "ADOL CEL DIA DRGIS EMP PDS PHY PRS _ActInformationSensitivityPolicy "
        "_EntitySensitivityPolicyType _RoleInformationSensitivityPolicy",
        "_ActInformationSensitivityPolicy": "ETH GDIS HIV MST SCA SDV SEX SICKLE SPI STD TBOO VIO",
        "SPI": "BH MH PSY PSYTHPN SUD",
        "BH": "COGN DVD EMOTDIS",
        "SUD": "ETHUD OPIOIDUD",
        "_EntitySensitivityPolicyType": "DEMO DOB GENDER LIVARG MARST RACE REL",
        "_RoleInformationSensitivityPolicy": "B EMPL LOCIS SSP",
    }.items()
}


def with_narrower(codes: Iterable[str]) -> frozenset[str]:
    """The codes and every code below one of them."""
    found: set[str] = set()
    waiting = list(codes)
    while waiting:
        code = waiting.pop()
        if code not in found:
            found.add(code)
            waiting.extend(_NARROWER.get(code, ()))
    return frozenset(found)
