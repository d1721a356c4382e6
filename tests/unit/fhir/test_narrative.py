"""Narrative.div: what txt-1 and txt-2 allow, and that a document can't make the parser do work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fhir.narrative import has_content, only_allowed

DIV = '<div xmlns="http://www.w3.org/1999/xhtml">%s</div>'


@pytest.mark.parametrize(
    "inner",
    [
        "text",
        "<p>a<br/>b</p>",
        '<table class="grid"><tr><td colspan="2">a</td></tr></table>',
        '<a href="https://example.org">a</a>',
        '<p xml:lang="fr" lang="fr">é</p>',
        '<img src="#a" alt="b"/>',
        '<ul style="color: red"><li>a</li></ul>',
        "&lt;script&gt;",
    ],
)
def test_basic_formatting_is_allowed(inner: str) -> None:
    assert only_allowed(DIV % inner)


@pytest.mark.parametrize(
    "div",
    [
        DIV % "<script>a</script>",
        DIV % '<p onclick="a()">b</p>',
        DIV % '<a href="javascript:a()">b</a>',
        DIV % '<a href=" JavaScript:a()">b</a>',
        DIV % "<form><input/></form>",
        DIV % '<object data="a"/>',
        DIV % "<iframe/>",
        DIV % '<svg xmlns="http://www.w3.org/2000/svg"><p/></svg>',
        DIV % "&nbsp;",
        DIV % "<p>",
        "<div>no namespace</div>",
        '<p xmlns="http://www.w3.org/1999/xhtml">not a div</p>',
        "text",
        '<?xml version="1.0"?><?evil a?>' + DIV % "a",
        "<!DOCTYPE div>" + DIV % "a",
    ],
)
def test_anything_else_is_refused(div: str) -> None:
    assert not only_allowed(div)


def test_entities_of_its_own_are_refused_before_they_grow() -> None:
    levels = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
    assert not only_allowed(f'<!DOCTYPE div [<!ENTITY e0 "lol">{levels}]>' + DIV % "&e11;")


def test_something_to_read_is_text_or_an_image() -> None:
    assert has_content(DIV % "a")
    assert has_content(DIV % '<img src="#a"/>')
    assert not has_content(DIV % " \n<p> </p>")


@given(st.text(alphabet="<>div/pa &;\"'=x!-[]?", max_size=60))
def test_any_text_gives_an_answer(text: str) -> None:
    assert only_allowed(text) in (True, False)
    assert has_content(text) in (True, False)
