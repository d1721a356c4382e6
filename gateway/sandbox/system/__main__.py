"""`python -m gateway.sandbox.system CONFIG`: runs one partner's system until it is told to stop."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import uvicorn

from gateway.clock import Clock, SystemClock
from gateway.sandbox.config import SystemConfig
from gateway.sandbox.system.app import create_system
from gateway.testing.clock import RunnerClock

__all__ = ["main"]


def main() -> None:
    """Serve on the loopback port that the configuration names."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m gateway.sandbox.system CONFIG")
    config = SystemConfig.load(Path(sys.argv[1]))
    clock: Clock = RunnerClock(config.clock) if config.clock is not None else SystemClock()
    app = create_system(config, now=clock.now, real=time.time)
    uvicorn.run(app, host="127.0.0.1", port=config.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
