"""A text that reaches her phone says nobody's title, last name, agency or service, however it is spelled (R12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.contact.text import CALL_ME, telling
from gateway.parties.load import load_policy

POLICY = load_policy(Path(__file__).resolve().parents[3], registry=None)


@pytest.mark.parametrize("text", ["hi robin, call me when ok", "call me at 3:30", "salut, ça va ? appelle-moi", "see you thursday at 10"])
def test_plain_words_may_go(text: str) -> None:
    assert not telling(text, POLICY)


@pytest.mark.parametrize(
    "text",
    [
        "Ms Robin, call me",
        "hi, it is the nurse",
        "Ontario Works approved you",
        "ontario  works, approved",
        "Victim-Services here",
        "vsdr here, call me",
        "your emergency income is here",
        "the police want you",
        "_police_ want you",
        "P\u043elice want you",  # a Cyrillic letter
        "\uff36\uff33\uff24\uff32 here",  # full-width letters
        "Ontario\u200bWorks approved you",  # a space that can't be seen
        "call +1-905-555-0100",
        "call 905 555 0100",
    ],
)
def test_what_tells_does_not_go(text: str) -> None:
    assert telling(text, POLICY)


def test_a_last_name_that_is_known_does_not_go() -> None:
    assert telling("hi Wexford, call me", POLICY, ["Wexford"])
    assert not telling("hi robin, call me", POLICY, ["Wexford"])


@pytest.mark.parametrize(("text", "fits"), [("call me", True), ("hi robin, call me when ok", True), ("your cheque is ready", False)])
def test_only_call_me_where_no_content_may_be_sent(text: str, fits: bool) -> None:
    assert (CALL_ME.fullmatch(text) is not None) is fits
