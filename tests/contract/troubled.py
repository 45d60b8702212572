"""A deployment in trouble: its block store fails and its clock moves when a test says so, and its services can be killed."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment
from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed
from tests.support.movable_clock import put_clock

REQUESTS_ADMITTED = 12
_ROOT = str(Path(__file__).resolve().parents[2])


class TroubledCloud(Cloud):
    """Its deadlines are short, its disks have few slots, and it takes few requests at once."""

    DEADLINE_SECONDS = 3

    def __init__(self, local: LocalDeployment, observed: Observed) -> None:
        super().__init__(local.addresses, observed)
        self._local = local
        self._faults = _faults_of(local.folder)

    @staticmethod
    def environment(folder: Path) -> Mapping[str, str]:
        _faults_of(folder).mkdir()
        return {
            "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")])),
            "STILLPOINT_CONTRACT_FAULTS": str(_faults_of(folder)),
            "STILLPOINT_DEADLINE_SECONDS": str(TroubledCloud.DEADLINE_SECONDS),
            "STILLPOINT_ANSWER_SECONDS": "6",
            "STILLPOINT_REQUESTS_ADMITTED": str(REQUESTS_ADMITTED),
            "STILLPOINT_MANUAL_SNAPSHOTS_PER_DISK": "4",
            "STILLPOINT_SAGA_LEASE_SECONDS": "1",
            "STILLPOINT_ROUND_SECONDS": "0.1",
            "STILLPOINT_AUTOMATIC_SNAPSHOTS_PER_DISK": "3",
        }

    @contextmanager
    def store_fails(self, method: str, how: str) -> Iterator[None]:
        """While the block lasts, a method of the block store is `full`, `lost` or `broken`; `write` also `rots`."""
        switch = self._faults / method
        switch.write_text(how)
        try:
            yield
        finally:
            switch.unlink()

    @contextmanager
    def clock(self) -> Iterator[Callable[[datetime], None]]:
        """While the block lasts, it is for policies and expiry the moment that the test puts the clock to."""
        file = self._faults / "clock"
        try:
            yield lambda moment: put_clock(file, moment)
        finally:
            file.unlink(missing_ok=True)

    @contextmanager
    def without(self, service: Service) -> Iterator[None]:
        """While the block lasts, a service is not there: killed, and started again at the end."""
        self._local.kill(service)
        try:
            yield
        finally:
            self._local.restart(service)


def _faults_of(folder: Path) -> Path:
    return folder.resolve() / "faults"
