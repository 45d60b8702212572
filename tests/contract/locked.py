"""A deployment with its door locked, and who comes to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import grpc
import pytest

from stillpoint_cli import certs
from stillpoint_cli.addresses import DEFAULT_ADDRESSES
from stillpoint_cli.certs import Certs
from stillpoint_cli.local import LocalDeployment
from svckit.auth.identity import Certificate, Identity
from tests.contract.cloud import Cloud
from tests.contract.error_tables import Observed
from tests.support.deployments import deployed, named_target


@dataclass(frozen=True, slots=True)
class Locked:
    deployment: LocalDeployment
    certs: Certs
    observed: Observed

    def token(self, account_id: str, *roles: str) -> str:
        return self.certs.token(account_id, roles, subject="tests", life=timedelta(hours=1))

    @property
    def trusting(self) -> grpc.ChannelCredentials:
        """Trusts the public ports, and shows nothing."""
        return grpc.ssl_channel_credentials(self.certs.ca.read_bytes())

    def identity(self, name: str) -> Identity:
        """Of a certificate in the folder, whatever it is for."""
        folder = self.certs.folder
        return Identity(
            Certificate(folder / f"{name}.crt", folder / f"{name}.key"), folder / "internal-ca.crt"
        )

    def visitor(self, account_id: str = "", *roles: str) -> Cloud:
        """Without an account, somebody without a token."""
        return self.bearer(self.token(account_id, *roles) if account_id else "")

    def bearer(self, token: str) -> Cloud:
        credentials = self.trusting
        if token:
            call = grpc.access_token_call_credentials(token)
            credentials = grpc.composite_channel_credentials(credentials, call)
        return Cloud(self.deployment.addresses, self.observed, credentials)


@contextmanager
def locked_deployment(
    request: pytest.FixtureRequest,
    database_kind: str,
    observed: Observed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Locked]:
    if named_target(request.config) is not None:
        pytest.skip("needs services whose tokens the suite can sign, which those of a --target are not")
    folder = tmp_path_factory.mktemp(f"locked-{database_kind}")
    made = certs.make(folder / "certs")
    known = {"east": DEFAULT_ADDRESSES}  # nothing gets as far as asking there
    with deployed(
        request, folder / "var", database_kind, environment={}, peers=known, certs=made
    ) as deployment:
        yield Locked(deployment, made, observed)
