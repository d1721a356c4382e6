"""Run the naive build under the same server, with the same options, as `gateway serve`."""

from __future__ import annotations

import uvicorn

from gateway.settings import load_settings
from tests.bench.naive.app import create_naive_app

if __name__ == "__main__":
    settings = load_settings()
    uvicorn.run(
        create_naive_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
    )
