"""snapshot_svc by a clock that tests move: its composition root in the troubled deployment."""

import os
from pathlib import Path

from snapshot_svc.__main__ import serve
from snapshot_svc.settings import Settings
from tests.support.movable_clock import clock_in

if __name__ == "__main__":
    serve(Settings(), clock_in(Path(os.environ["STILLPOINT_CONTRACT_FAULTS"]) / "clock"))
