"""A deployment in trouble: its block store fails when a test says so, and its services can be killed."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stillpoint_cli.addresses import Service
from stillpoint_cli.local import LocalDeployment
from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed

REQUESTS_ADMITTED = 12
_ROOT = str(Path(__file__).resolve().parents[2])


class TroubledCloud(Cloud):
    """Its deadlines are short, and it takes few requests at once."""

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
    def without(self, service: Service) -> Iterator[None]:
        """While the block lasts, a service is not there: killed, and started again at the end."""
        self._local.kill(service)
        try:
            yield
        finally:
            self._local.restart(service)


def _faults_of(folder: Path) -> Path:
    return folder.resolve() / "faults"
