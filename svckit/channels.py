"""Channels to a service that may have several replicas."""

import ipaddress
import json
import socket
from collections.abc import Sequence
from typing import Any

import grpc

from svckit.telemetry import traces

KEEPALIVE_SECONDS = 5.0
"""A side that has heard nothing for so long asks, and after as long again without an answer gives the connection up.

A machine that loses its power or a firewall that forgets a connection closes nothing: to the kernel it is open for a quarter
of an hour, and health, which is watched over that very connection, stays what it was last. Every call until then would wait
out its time on it: a saga whose steps have 10 s and that has 30 s in all needs to be off it in 10.
"""

PERMITTING_KEEPALIVE: list[tuple[str, Any]] = [
    # A server takes more than a ping in five minutes for an attack, and hangs up on who sends them.
    ("grpc.http2.min_ping_interval_without_data_ms", round(KEEPALIVE_SECONDS * 1000 / 2)),
    ("grpc.keepalive_permit_without_calls", 1),
]
"""For servers."""

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.keepalive_time_ms", round(KEEPALIVE_SECONDS * 1000)),
    ("grpc.keepalive_timeout_ms", round(KEEPALIVE_SECONDS * 1000)),
    # gRPC 1.85 gives an answer to a ping this long, a minute by itself, and does not look at the line above for it.
    ("grpc.http2.ping_timeout_ms", round(KEEPALIVE_SECONDS * 1000)),
    # Also when nothing is called: what waits for the next call should be known to be dead by then. And for ever: gRPC stops
    # after two pings with nothing else in between.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # One that comes back within a second when the other side does: gRPC's own pause grows to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # A replica that goes away makes its name be looked up again; half a minute, gRPC's own rest, is too long for that.
    ("grpc.dns_min_time_between_resolutions_ms", 1000),
    # Watching health: a replica that is about to stop is left before it does.
    (
        "grpc.service_config",
        json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": ""}}),
    ),
    # A refusal that names every disk of a large instance.
    ("grpc.max_metadata_size", 64 * 1024),
]


def open_channel(
    addresses: str,
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, Any]] = (),
) -> grpc.Channel:
    """A channel that goes round the replicas at `addresses`: one `host:port`, whose name may stand for several, or several
    with commas between. Plain without credentials; with them every replica shows a certificate for the first host.
    `options` are gRPC's, in place of those with the same name here.
    """
    target, authority = _target(addresses)
    # Each name once: of two options with one name gRPC takes the first.
    chosen = list(dict([*_OPTIONS, *authority, *options]).items())
    if credentials is None:
        return traces.traced(grpc.insecure_channel(target, options=chosen))
    return traces.traced(grpc.secure_channel(target, credentials, options=chosen))


def _target(addresses: str) -> tuple[str, list[tuple[str, Any]]]:
    each = [address.strip() for address in addresses.split(",")]
    if len(each) == 1:
        return each[0], []
    # gRPC takes a list of numbers only; a list of names is looked up here, once.
    numbers = [number for address in each for number in _numbers(address)]
    family = "ipv6" if all(number.startswith("[") for number in numbers) else "ipv4"
    host = each[0].rpartition(":")[0].strip("[]")
    return f"{family}:{','.join(numbers)}", [("grpc.default_authority", host)]


def _numbers(address: str) -> list[str]:
    host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        found = socket.getaddrinfo(host, int(port), family=socket.AF_INET, type=socket.SOCK_STREAM)
        return [f"{number[4][0]}:{port}" for number in found]
    return [address]
