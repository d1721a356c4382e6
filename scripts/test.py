"""`make test` without arguments: the whole suite, in as many pytest processes side by side as there are cores (four at most).

The files are dealt into parts, and each process takes the next part when it has finished one. Every line of output says which part it
belongs to; what failed is printed again at the end. With arguments it is one ordinary pytest.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHOICE: Final = ["-m", "not ci and not bench and not soak"]
PARTS: Final = (("tests/integration", 8), ("tests/security", 2), ("tests/unit", 2), ("tests", 1))
"""Folders, and into how many parts the files below each are dealt; a file belongs to the first that holds it. Slow ones first."""


def parts() -> dict[str, list[str]]:
    """Every test file, once."""
    left = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts)
    dealt: dict[str, list[str]] = {}
    for folder, number in PARTS:
        mine = [path for path in left if path.startswith(f"{folder}/")]
        left = [path for path in left if path not in mine]
        for index in range(number):
            dealt[f"{folder.removeprefix('tests/')} {index + 1}/{number}"] = mine[index::number]
    return {name: files for name, files in dealt.items() if files}


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0 when every part passed."""
    pytest = [sys.executable, "-m", "pytest", *CHOICE]
    if arguments:
        return subprocess.run([*pytest, *arguments], cwd=ROOT, check=False).returncode
    began = time.monotonic()
    waiting: queue.SimpleQueue[tuple[str, list[str]]] = queue.SimpleQueue()
    for part in parts().items():
        waiting.put(part)
    total, ended, bad = waiting.qsize(), [], {}
    printing = threading.Lock()

    def lane() -> None:
        while True:
            try:
                name, files = waiting.get_nowait()
            except queue.Empty:
                return
            told: list[str] = []
            with subprocess.Popen([*pytest, "-q", *files], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as run:
                assert run.stdout is not None
                for line in run.stdout:
                    told.append(line)
                    if line.rstrip().endswith("%]"):
                        with printing:
                            print(f"{name:>16} | {line.rstrip()}", flush=True)
            with printing:
                ended.append(name)
                if run.returncode not in (0, 5):  # 5: nothing of this part belongs to this size of the suite
                    bad[name] = told
                print(f"{name:>16} | {told[-1].strip()}  ({len(ended)} of {total} parts, {time.monotonic() - began:.0f} s)", flush=True)

    lanes = [threading.Thread(target=lane) for _ in range(max(1, min(4, os.cpu_count() or 1)))]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    for name, told in bad.items():
        print(f"\n==== {name} ====\n{''.join(told)}")
    print(
        f"{total - len(bad)} of {total} parts passed in {time.monotonic() - began:.0f} s" + (f"; failed: {', '.join(bad)}" if bad else "")
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
