"""Runs one module as a process that ends with the process that started it, however that ends.

    python -m gateway.sandbox.kept MODULE [ARGUMENT...]

Standard input is the leash: a pipe whose other end the starter holds. When it closes, because the starter stopped, crashed or was killed,
this process asks itself to stop as a terminal would, and after a short time stops in any case.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from typing import Final

__all__ = ["main"]

GRACE: Final = 5.0
"""Seconds between asking and ending."""


def main() -> None:
    """Watch the leash, then become the module named."""
    if len(sys.argv) < 2:
        raise SystemExit("usage: python -m gateway.sandbox.kept MODULE [ARGUMENT...]")
    # The module gets no input: the pipe stays ours.
    leash = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.set_inheritable(leash, False)
    threading.Thread(target=_watch, args=(leash,), daemon=True, name="leash").start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _watch(leash: int) -> None:
    while os.read(leash, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE)
    os._exit(1)


if __name__ == "__main__":
    main()
