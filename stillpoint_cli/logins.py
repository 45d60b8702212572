"""What `stillpoint login` leaves for the commands after it: a token, the CA to trust, and the addresses that both are for.

A login counts at its own addresses only: a token must not go to whatever deployment the next command happens to name.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import typer

from stillpoint_cli.addresses import Addresses, Endpoint, Service
from stillpoint_cli.errors import Failure


@dataclass(frozen=True, slots=True)
class Login:
    """`ca` is PEM; empty trusts the CAs that the system does."""

    token: str = field(repr=False)
    ca: str
    addresses: Addresses

    @classmethod
    def read(cls) -> Self | None:
        file = login_file()
        try:
            found = json.loads(file.read_text())
            endpoints = {service.value: Endpoint(**found["addresses"][service]) for service in Service}
            return cls(token=found["token"], ca=found["ca"], addresses=Addresses(**endpoints))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError):
            # Nothing of it is repeated: it has a token in it.
            raise Failure(f"{file} is no login; `stillpoint logout` removes it") from None

    def write(self) -> Path:
        """Appear whole, and its owner's alone from the first moment on."""
        file = login_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o700)
        new = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as opened:
                json.dump(asdict(self), opened, indent=2)
            new.replace(file)
        finally:
            new.unlink(missing_ok=True)
        return file

    def is_for(self, service: Service, public: str) -> bool:
        return self.addresses.of(service).public == public


def login_file() -> Path:
    return Path(typer.get_app_dir("stillpoint")) / "login.json"
