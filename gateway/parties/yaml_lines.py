"""YAML with line numbers: each value is found again by its path when something turns out to be wrong with it.

Read as YAML 1.2's core schema: only ``true`` and ``false`` are booleans (``no`` and ``on`` stay words), dates and ``10:30`` stay text.
A key given twice is a mistake, not the last one's win.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.parties.errors import Mistakes

__all__ = ["Document", "Place", "read"]

Place = tuple[str | int, ...]
"""The way from the top of a document to a value: keys and positions."""

_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's where it is built in: ten times as fast
_DEEPEST: Final = 40
_TEXT_STYLES: Final = ("'", '"', "|", ">")
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)\Z")


@dataclass(frozen=True, slots=True)
class Document:
    """One file: its values as JSON would have them, and where each stands."""

    file: Path
    data: Any
    lines: Mapping[Place, int]

    def line(self, place: Place) -> int:
        """The line of a value, or of the nearest thing around it that exists."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def key_line(self, place: Place) -> int:
        """The line on which the key itself stands, which may be above its value's."""
        return self.lines.get((*place[:-1], f"\0{place[-1]}"), self.line(place))


def read(file: Path, mistakes: Mistakes) -> Document:
    """Read a file. Whatever stops it from being read is noted, and the document then holds an empty mapping."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        mistakes.add(file, 1, f"cannot be read ({type(error).__name__})")
        return Document(file, {}, {})
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line + 1 if error.problem_mark else 1
        mistakes.add(file, at, f"is not YAML: {error.problem or 'cannot be read'}")
        return Document(file, {}, {})
    except yaml.YAMLError:
        mistakes.add(file, 1, "is not YAML")
        return Document(file, {}, {})
    if node is None:
        mistakes.add(file, 1, "is empty")
        return Document(file, {}, {})
    lines: dict[Place, int] = {}
    return Document(file, _value(node, (), lines, file, mistakes), lines)


def _value(node: yaml.Node, place: Place, lines: dict[Place, int], file: Path, mistakes: Mistakes) -> Any:
    lines[place] = node.start_mark.line + 1
    if len(place) > _DEEPEST:
        mistakes.add(file, node.start_mark.line + 1, "is nested too deeply, or is an alias of itself")
        return None
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*place, index), lines, file, mistakes) for index, item in enumerate(node.value)]
    result: dict[str, Any] = {}
    assert isinstance(node, yaml.MappingNode)
    for key_node, item in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else ""
        at = key_node.start_mark.line + 1
        if key in result:
            mistakes.add(file, at, f"the key {key!r} is given twice")
        lines[(*place, f"\0{key}")] = at
        result[key] = _value(item, (*place, key), lines, file, mistakes)
    return result


def _scalar(node: yaml.ScalarNode) -> str | int | bool | None:
    text = str(node.value)
    if node.style in _TEXT_STYLES:  # quoted or a block: text, whatever it looks like
        return text
    if text in ("true", "false"):
        return text == "true"
    if text in ("", "null", "~"):
        return None
    return int(text) if _INTEGER.match(text) and len(text) < 19 else text
