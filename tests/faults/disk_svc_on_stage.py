"""The tests' composition root of disk_svc: the service as it is, over a block store that fails on demand, by a clock that
tests move, with sagas that a test can stop.
"""

import os
from pathlib import Path

from disk_svc import __main__ as root
from disk_svc.blockstore import LmdbBlockStore
from disk_svc.settings import Settings
from tests.faults.engine import put_on_stage
from tests.faults.store import faulty
from tests.support.movable_clock import clock_in

CLOCK = "STILLPOINT_FAULTS_CLOCK"


def main() -> None:
    put_on_stage(root)
    settings = Settings()
    clock = clock_in(Path(os.environ[CLOCK]))
    root.serve(settings, faulty(LmdbBlockStore(settings.store_path)), clock)


if __name__ == "__main__":
    main()
