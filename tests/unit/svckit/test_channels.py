"""A channel of ours with the options of whoever opens it."""

import json
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from svckit.channels import open_channel

RETRYING = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 2,
                    "initialBackoff": "0.01s",
                    "maxBackoff": "0.01s",
                    "backoffMultiplier": 1,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


class AwayAtFirst(health_pb2_grpc.HealthServicer):
    """Its first answer is that it is not there."""

    def __init__(self) -> None:
        self.calls = 0

    def Check(self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext):
        self.calls += 1
        if self.calls == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "at first")
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


@pytest.fixture
def address() -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    health_pb2_grpc.add_HealthServicer_to_server(AwayAtFirst(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_a_service_config_that_is_given_takes_the_place_of_ours(address: str):
    with open_channel(address, options=[("grpc.service_config", RETRYING)]) as channel:
        answer = ask(channel)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_without_one_the_caller_sees_the_failure(address: str):
    with open_channel(address) as channel, pytest.raises(grpc.RpcError) as failure:
        ask(channel)
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE


def ask(channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)  # its published types have no methods
    return stub.Check(health_pb2.HealthCheckRequest())
