"""The tests' composition root of disk_svc: the service as it is, over a block store that fails on demand, by a clock that
tests move.
"""

import os
from pathlib import Path

from disk_svc.__main__ import serve
from disk_svc.blockstore import LmdbBlockStore
from disk_svc.settings import Settings
from tests.faults.store import faulty
from tests.support.movable_clock import clock_in

CLOCK = "STILLPOINT_FAULTS_CLOCK"


def main() -> None:
    settings = Settings()
    clock = clock_in(Path(os.environ[CLOCK]))
    serve(settings, faulty(LmdbBlockStore(settings.store_path)), clock)


if __name__ == "__main__":
    main()
