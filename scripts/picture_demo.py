"""Make the terminal pictures of the README from a real run of the demo.

    python -m scripts.picture_demo          plays the demo once, then writes docs/images/demo.svg and docs/images/demo-table.svg

The pictures are cut from what the demo printed: its beginning, and its end from the table on. Exit code 1, and nothing written, if the
run was not as its scenario says. Ports differ from run to run, so do the pictures.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from gateway.sandbox import demo

ROOT: Final = Path(__file__).resolve().parent.parent
IMAGES: Final = ROOT / "docs" / "images"
COMMAND: Final = "make demo"
FIRST_UNTOLD: Final = re.compile(r"^02:50 ")
"""The first line of the night that the first picture leaves out."""
TABLE: Final = "Who sees what"

WIDTH: Final = 100
_PLAIN: Final = [(21, 24, 30), (240, 113, 120), (127, 204, 160), (230, 180, 80), (110, 170, 240), (200, 150, 230), (110, 200, 210)]
_BRIGHT: Final = [(150, 158, 172), (255, 140, 145), (150, 225, 180), (245, 200, 110), (140, 195, 255), (215, 175, 245), (140, 220, 230)]
THEME: Final = TerminalTheme((21, 24, 30), (222, 226, 234), [*_PLAIN, (222, 226, 234)], [*_BRIGHT, (255, 255, 255)])
FORMAT: Final = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
        font-variant-east-asian: full-width;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: "DejaVu Sans", Helvetica, Arial, sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""
"""Rich's own picture of a terminal without the fonts that it would fetch from the web."""


def main() -> int:
    """Play, cut, write."""
    played = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    vars(demo)["console"] = lambda: played  # the demo asks for a terminal by this name
    result = asyncio.run(demo.play_demo(once=True))
    if not result["ok"]:
        sys.stderr.write("The demo was not as its scenario says; the pictures are as they were.\n")
        return 1
    lines = Text.from_ansi(played.export_text(styles=True)).split("\n")
    plain = [line.plain for line in lines]
    untold = next(i for i, line in enumerate(plain) if FIRST_UNTOLD.match(line))
    table = next(i for i, line in enumerate(plain) if line.startswith(TABLE))
    IMAGES.mkdir(exist_ok=True)
    picture([*lines[:untold], Text("...", "bright_black")], IMAGES / "demo.svg")
    picture(list(lines[table:]), IMAGES / "demo-table.svg")
    return 0


def picture(lines: list[Text], file: Path) -> None:
    """One picture of some of the lines."""
    out = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False)
    for line in lines:
        out.print(line, soft_wrap=True)
    svg = out.export_svg(title=COMMAND, theme=THEME, code_format=FORMAT, unique_id=file.stem)
    file.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
