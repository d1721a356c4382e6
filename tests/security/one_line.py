"""Changes one line of a function that is in use, for as long as a test lasts: a leak on purpose, in the real code path."""

from __future__ import annotations
import __future__

import contextlib
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["changed"]


@contextlib.contextmanager
def changed(function: Callable[..., Any], line: str, instead: str) -> Iterator[None]:
    """`line` must stand exactly once in the function's source. Whoever has imported the function runs the changed one."""
    assert inspect.isfunction(function) and function.__code__.co_freevars == ()
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(line) == 1, f"{function.__qualname__} has that line {source.count(line)} times"
    names: dict[str, Any] = dict(vars(sys.modules[function.__module__]))
    code = compile(source.replace(line, instead), function.__code__.co_filename, "exec", __future__.annotations.compiler_flag)
    exec(code, names)  # noqa: S102 - the source is the product's own, with one line of this test's
    before = function.__code__
    function.__code__ = names[function.__name__].__code__
    try:
        yield
    finally:
        function.__code__ = before
