"""Clients that send what nobody means, and judge what they are answered."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, count, repeat
from random import Random
from typing import Any

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message
from grpc_status import rpc_status
from rich.progress import Progress

from tests.contract.error_tables import Observed
from tests.fuzz.knowledge import Knowledge
from tests.fuzz.messages import Messages, parsed
from tests.fuzz.methods import Port, Target
from tests.fuzz.values import odd_metadata

DEADLINE_SECONDS = 30.0
CLIENTS = 8
_MOST_FAULTS = 20
_SHOWN_CHARACTERS = 1500

_NEVER = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
"""No request may be answered so, as long as all services run."""

_ENDLESS = {"Watch"}
"""Streams that end with their clients only."""

_RARELY = {"ScrubStore": 0.05, "CheckStore": 0.1, "SetAccountStanding": 0.3}
"""How often, beside others: those that go through all there is, and one that blocks much of the rest."""


@dataclass(slots=True)
class Tally:
    """What became of the requests, by target."""

    sent: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    longest_seconds: float = 0.0
    seconds: float = 0.0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def rows(self) -> Iterator[tuple[str, int, int, int]]:
        """Target, requests, accepted, refused."""
        for name in sorted(self.sent):
            yield name, self.sent[name], self.accepted[name], self.sent[name] - self.accepted[name]


@dataclass(frozen=True, slots=True)
class Answer:
    code: grpc.StatusCode
    call: Any
    responses: Sequence[bytes]
    seconds: float


class Fuzzer:
    """The same `seed` throws the same dice for each client; what the services answer to whom, and when, is theirs."""

    def __init__(self, channels: Mapping[Port, grpc.Channel], observed: Observed, seed: int) -> None:
        self._channels = channels
        self._observed = observed
        self._seed = seed
        self._knowledge = Knowledge()
        self._runs = count()
        self.tally = Tally()

    def run(self, targets: Sequence[Target], requests: int, progress: Progress) -> None:
        """Returns when so many have been answered, or when there are too many faults to read."""
        bar = progress.add_task("requests", total=requests)
        begun = time.monotonic()
        # Each once, and then as the dice fall.
        left = chain(targets, repeat(None, max(0, requests - len(targets))))
        guard = threading.Lock()
        run = next(self._runs)
        weights = [_RARELY.get(target.descriptor.name, 1.0) for target in targets]

        def client(number: int) -> None:
            random = Random(f"{self._seed}/{run}/{number}")
            messages = Messages(random, self._knowledge)
            while len(self.tally.faults) < _MOST_FAULTS:
                with guard:
                    try:
                        turn = next(left)
                    except StopIteration:
                        return
                target = turn or random.choices(targets, weights)[0]
                self._ask(random, target, messages.stream(target))
                progress.advance(bar)

        with ThreadPoolExecutor(CLIENTS, thread_name_prefix="client") as clients:
            for ended in [clients.submit(client, number) for number in range(CLIENTS)]:
                ended.result()
        self.tally.seconds += time.monotonic() - begun

    def _ask(self, random: Random, target: Target, encoded: Sequence[bytes]) -> None:
        metadata = odd_metadata(random) if random.random() < 0.05 else []
        answer = self._send(random, target, encoded, metadata)
        requests = [parsed(target, each) for each in encoded]
        fault = self._fault_of(target, answer, odd_metadata=bool(metadata))
        with self.tally.guard:
            self.tally.sent[str(target)] += 1
            self.tally.accepted[str(target)] += answer.code is grpc.StatusCode.OK
            self.tally.longest_seconds = max(self.tally.longest_seconds, answer.seconds)
            if fault:
                self.tally.faults.append(f"{target}: {fault}\n{_shown(encoded, requests, metadata)}")
        first = requests[0] if requests else None
        if answer.code is grpc.StatusCode.OK and first is not None:
            responses = [target.response.FromString(each) for each in answer.responses]
            self._knowledge.learn(target, first, responses)

    def _send(
        self,
        random: Random,
        target: Target,
        encoded: Sequence[bytes],
        metadata: list[tuple[str, str | bytes]],
    ) -> Answer:
        channel: Any = self._channels[target.port]
        method = target.descriptor
        options: dict[str, Any] = {"timeout": DEADLINE_SECONDS, "metadata": metadata}
        begun = time.monotonic()
        if not method.server_streaming:
            call: Any = channel.unary_unary(target.path).future(encoded[0], **options)
            responses = [call.result()] if call.exception() is None else []
            return Answer(call.code(), call, responses, time.monotonic() - begun)
        if method.client_streaming:
            call = channel.stream_stream(target.path)(iter(encoded), **options)
        else:
            call = channel.unary_stream(target.path)(encoded[0], **options)
        # A stream may never end by itself; who has seen enough of it goes away.
        enough = 1 if method.name in _ENDLESS else random.choice((1, 3, 50))
        responses = []
        try:
            for response in call:
                responses.append(response)
                if len(responses) >= enough:
                    call.cancel()
                    return Answer(grpc.StatusCode.OK, call, responses, time.monotonic() - begun)
        except grpc.RpcError:
            pass
        return Answer(call.code(), call, responses, time.monotonic() - begun)

    def _fault_of(self, target: Target, answer: Answer, *, odd_metadata: bool) -> str:
        """Empty for none."""
        code = answer.code
        if answer.seconds > DEADLINE_SECONDS + 1:
            return f"answered after {answer.seconds:.1f} s"
        if code is grpc.StatusCode.OK:
            return ""
        if code in _NEVER:
            return f"{code.name} after {answer.seconds:.1f} s: {answer.call.details()}"
        if not target.is_ours or (odd_metadata and code is grpc.StatusCode.RESOURCE_EXHAUSTED):
            return ""
        status = rpc_status.from_call(answer.call)
        if status is None:
            return f"{code.name} without details: {answer.call.details()}"
        self._observed.note(target.path, code, status)
        return ""


def _shown(encoded: Sequence[bytes], requests: Sequence[Message | None], metadata: object) -> str:
    lines = [f"  metadata {metadata!r}"] if metadata else []
    for each, request in zip(encoded, requests, strict=True):
        said = (
            repr(each)
            if request is None
            else text_format.MessageToString(request, as_one_line=True, as_utf8=False)
        )
        lines.append(
            f"  {said[:_SHOWN_CHARACTERS]}{f' … {len(said)} characters' if len(said) > _SHOWN_CHARACTERS else ''}"
        )
    return "\n".join(lines)
