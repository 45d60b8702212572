"""Bytes that are no message of the method's type: refused as every malformed request is, by every method."""

from typing import Any

import pytest

from stillpoint.disk.v1 import block_service_pb2
from stillpoint_cli.addresses import Service
from tests.contract.cloud import Cloud, write_message
from tests.contract.methods import METHODS, Method
from tests.contract.refusals import refused

NO_MESSAGE = b"\x0a\x05abc"
WRITE_BLOCKS = "/stillpoint.disk.v1.BlockService/WriteBlocks"


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_they_are_an_invalid_request(cloud: Cloud, method: Method):
    # A stream of one message is sent as a request is.
    with refused("INVALID_ARGUMENT", "INVALID_REQUEST"):
        call: Any = cloud.channels[method.service].unary_stream(method.path)
        list(call(NO_MESSAGE))


def test_in_a_stream_what_was_sent_before_them_is_durable(cloud: Cloud):
    disk_id = cloud.a_disk()
    messages = [write_message(disk_id, (0, b"before")).SerializeToString(), NO_MESSAGE]
    answers = []
    call: Any = cloud.channels[Service.DISK].stream_stream(WRITE_BLOCKS)
    with refused("INVALID_ARGUMENT", "INVALID_REQUEST"):
        for answer in call(iter(messages)):
            answers.append(block_service_pb2.WriteBlocksResponse.FromString(answer))  # noqa: PERF401 - it ends in the middle
    assert [answer.messages_durable for answer in answers] == [1]
    assert cloud.read(disk_id, 0, 6) == b"before"
