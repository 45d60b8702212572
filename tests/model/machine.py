"""The machine that compares: it asks the product and the rules the same, and looks whether they say the same.

Two clients at once are answered as if either had come first, and one of them may be told that the other is at work. A call
during which a service dies has been carried out or has not, whole; asked again with its `request_id` it is carried out once.
"""

import copy
import sys
from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any, ClassVar

import grpc
import hypothesis.strategies as st
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis.errors import HypothesisException
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from stillpoint.compute.v1 import account_service_pb2 as accounts
from stillpoint.compute.v1 import instance_service_pb2 as instances
from stillpoint.disk.v1 import disk_service_pb2 as disks
from stillpoint.disk.v1 import disk_snapshot_service_pb2 as disk_snapshots
from stillpoint.snapshot.v1 import instance_snapshot_service_pb2 as wholes
from stillpoint_cli.addresses import Service
from tests.contract.cloud import a_request_id
from tests.model.answers import Refused, plain
from tests.model.asking import CHANGES, Choices, Client, Wish, break_one_field, with_another_body
from tests.model.product import Answer, Product, empty_answer, is_no_answer, reasons_of
from tests.model.rules import Rules
from tests.model.telling import History, Tally, differences

SLOTS = 3
BUSY = {
    "INSTANCE_BUSY",
    "DISK_BUSY",
    "SNAPSHOT_STATE",
    "SNAPSHOT_IN_USE",
    "INSTANCE_SNAPSHOT_STATE",
    "WRITER_FENCED",
}
"""What only another operation that is at work is a reason for."""

ASKED_BETWEEN_LOOKS = 4
"""What is wrong stays wrong, so that it need not be looked for each time."""

NUMBERS = st.lists(st.integers(0, 59), min_size=12, max_size=12)
WISHES = st.integers(0, len(CHANGES) - 1)


class Disagreement(AssertionError):
    """Of the product and the rules, with the history that led there."""


class Machine(RuleBasedStateMachine):
    """One history, of what it has made itself."""

    product: ClassVar[Product]
    tally: ClassVar[Tally]

    def __init__(self) -> None:
        super().__init__()
        self.since = Timestamp()
        self.since.GetCurrentTime()
        self.model = Rules(slots=SLOTS)
        self.gone: list[str] = []
        self.accepted: list[tuple[Message, Answer]] = []
        self.history = History()

    @initialize(numbers=NUMBERS)
    def begins_with_an_instance(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.new_instance, numbers))

    # One client

    @rule(numbers=NUMBERS)
    def on_instances(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.instance, numbers))

    @rule(numbers=NUMBERS)
    def on_attachments(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.attachment, numbers))

    @rule(numbers=NUMBERS)
    def on_disks(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.disk, numbers))

    @rule(numbers=NUMBERS)
    def rolls_a_disk_back(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.disk_rollback, numbers))

    @rule(numbers=NUMBERS)
    def writes(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.write, numbers))

    @rule(numbers=NUMBERS)
    def reads(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.read, numbers))

    @rule(numbers=NUMBERS)
    def on_disk_snapshots(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.disk_snapshot, numbers))

    @rule(numbers=NUMBERS)
    def on_instance_snapshots(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.instance_snapshot, numbers))

    @rule(numbers=NUMBERS)
    def on_instance_snapshots_too(self, numbers: list[int]) -> None:
        self.on_instance_snapshots(numbers)

    @rule(numbers=NUMBERS)
    def describes(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.description, numbers))

    @rule(numbers=NUMBERS)
    def pays_or_does_not(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.account, numbers))

    @rule(numbers=NUMBERS)
    def looks(self, numbers: list[int]) -> None:
        self.ask(self.wish(Client.look, numbers))

    @rule(page_size=st.integers(1, 9))
    def lists(self, page_size: int) -> None:
        self.history.add(f"everything is listed, {page_size} a page")
        self.look_at_lists(page_size)
        self.tally.step()

    # What is asked again, or badly

    @rule(numbers=NUMBERS)
    def asks_again(self, numbers: list[int]) -> None:
        if not self.accepted:
            self.on_instances(numbers)
            return
        request, first = Choices(numbers).of(self.accepted[::-1])
        answer = self.ask(request, how="again")
        if answer != first:
            raise self.disagreement(f"the same again was answered\n{answer}\nand not\n{first}")

    @rule(numbers=NUMBERS)
    def asks_for_something_else_with_the_same_request_id(self, numbers: list[int]) -> None:
        if not self.accepted:
            self.on_instances(numbers)
            return
        request, _ = Choices(numbers).of(self.accepted[::-1])
        self.ask(with_another_body(request), how="with a used request_id")

    @rule(wish=WISHES, numbers=NUMBERS)
    def asks_for_what_is_malformed(self, wish: int, numbers: list[int]) -> None:
        request = self.wish(CHANGES[wish], numbers)
        broken = break_one_field(request, Choices(numbers[::-1]))
        answer = self.product.ask(broken.request)
        self.history.asked(broken.request, answer, "malformed")
        try:
            assert isinstance(answer, grpc.RpcError), "it was accepted"
            Refused.malformed(broken.field).is_what(answer)
        except AssertionError as error:
            raise self.disagreement(str(error)) from error
        self.tally.answered(broken.request, answer)

    # Several clients, and deaths

    @rule(first=WISHES, numbers=NUMBERS, second=WISHES, others=NUMBERS)
    def two_ask_at_once(self, first: int, numbers: list[int], second: int, others: list[int]) -> None:
        requests = [self.wish(CHANGES[first], numbers), self.wish(CHANGES[second], others)]
        if any(isinstance(request, wholes.BatchDeleteInstanceSnapshotsRequest) for request in requests):
            # Of a batch a part may be refused as busy, which is no rule of its own.
            self.ask(requests[0])
            return
        answers = self.product.ask_both(*requests)
        for request, answer in zip(requests, answers, strict=True):
            self.history.asked(request, answer, "at once")
        shown = self.everything()
        said: list[str] = []
        for possible in self.after_both(requests, answers, said):
            if differs := differences(_all_of(possible), shown):
                said.append(differs)
                continue
            self.adopt(possible)
            for request, answer in zip(requests, answers, strict=True):
                self.note(request, answer)
                self.tally.answered(request, answer, at_once=True)
            return
        raise self.disagreement("\n".join(["no order of the two explains this:", *said]))

    @rule(
        wish=WISHES,
        numbers=NUMBERS,
        victim=st.sampled_from(list(Service)),
        after_ms=st.integers(0, 30),
        insists=st.booleans(),
        luck=st.integers(0, 3),
    )
    def one_dies_meanwhile(
        self, *, wish: int, numbers: list[int], victim: Service, after_ms: int, insists: bool, luck: int
    ) -> None:
        """Seldom, because to start a service takes as long as a hundred requests."""
        request: Any = self.wish(CHANGES[wish], numbers)
        if luck < 3:
            self.ask(request)
            return
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = a_request_id()  # without one it could not be asked again
        answer = self.product.ask_while_one_dies(request, victim, after_ms / 1000)
        self.history.asked(request, answer, f"while {victim} is killed after {after_ms} ms")
        self.tally.kills[victim.value] += 1
        if not is_no_answer(answer):
            self.agree(request, answer)
            self.look_at_everything()
            return
        shown = self.everything()
        not_done = differences(_all_of(self.model), shown)
        self.tally.no_answer["done" if not_done else "not done"] += 1
        if not not_done and not insists:
            return
        answer = self.product.ask(request)
        self.history.asked(request, answer, "again, because there was no answer")
        self.agree(request, answer)
        self.product.finish(request, answer)
        if not_done and (differs := differences(_all_of(self.model), shown)):
            raise self.disagreement(f"it was neither done nor not done:\n{not_done}\n{differs}")
        self.look_at_everything()

    def teardown(self) -> None:
        """The next history begins with nothing, and in good standing."""
        good = accounts.SetAccountStandingRequest(standing=accounts.Account.STANDING_GOOD)
        error = sys.exc_info()[1]
        if error is not None:
            if isinstance(error, Exception) and not isinstance(error, HypothesisException):
                self.tally.disagreed(
                    str(error if isinstance(error, Disagreement) else self.disagreement(repr(error)))
                )
            self.product.mend()
            self.product.ask(good)
            return
        self.look_at_everything()
        self.history.add("everything is deleted")
        self.ask(good)
        self.delete_everything()

    # Asking

    def wish(self, wish: Wish, numbers: Sequence[int]) -> Message:
        return wish(Client(self.model, self.gone, numbers))

    def ask(self, request: Message, how: str = "") -> Answer:
        before = dict(self.model.bytes)
        answer = self.product.ask(request)
        self.history.asked(request, answer, how)
        self.agree(request, answer)
        self.product.finish(request, answer)
        if len(self.history) % ASKED_BETWEEN_LOOKS == 0:
            self.look_at_lists()
        for object_id, content in self.model.bytes.items():
            if before.get(object_id) is not content:
                self.look_at_bytes(object_id)
        return answer

    def agree(self, request: Message, answer: Answer) -> None:
        """The rules say what the product said, and do what it did."""
        had = self.model.ids
        try:
            _agree(self.model, request, answer)
        except AssertionError as error:
            raise self.disagreement(str(error)) from error
        self.gone += [each for each in had if each not in self.model.ids]
        self.note(request, answer)
        self.tally.answered(request, answer)

    def adopt(self, model: Rules) -> None:
        had = self.model.ids
        self.model = model
        self.gone += [each for each in had if each not in self.model.ids]

    def note(self, request: Any, answer: Answer) -> None:
        remembered = getattr(request, "request_id", "") and not getattr(request, "validate_only", None)
        if isinstance(answer, Message) and remembered and (request, answer) not in self.accepted:
            self.accepted.append((request, answer))

    def after_both(
        self, requests: Sequence[Message], answers: Sequence[Answer], said: list[str]
    ) -> Iterator[Rules]:
        """What there may be when two have asked at once."""
        busy = [bool(reasons_of(answer) & BUSY) for answer in answers]
        for order in permutations(range(len(requests))):
            model = copy.deepcopy(self.model)
            try:
                for each in order:
                    if not busy[each]:
                        _agree(model, requests[each], answers[each])
            except AssertionError as error:
                said.append(str(error))
                continue
            yield model
            for each, answer in enumerate(answers):
                if "WRITER_FENCED" in reasons_of(answer):
                    written = copy.deepcopy(model)
                    written.answer(requests[each], empty_answer(requests[each]))
                    yield written

    # Looking

    def everything(self) -> dict[str, dict[str, Any]]:
        listed: dict[str, dict[str, Any]] = dict(self.product.listed(self.since))
        listed["bytes"] = {
            object_id: self.product.read(object_id)
            for object_id in (*listed["disk"], *listed["disk_snapshot"])
        }
        return listed

    def look_at_everything(self) -> None:
        if differs := differences(_all_of(self.model), self.everything()):
            raise self.disagreement(differs)

    def look_at_lists(self, page_size: int = 0) -> None:
        shown = self.product.listed(self.since, page_size)
        if differs := differences({kind: _all_of(self.model)[kind] for kind in shown}, shown):
            raise self.disagreement(differs)

    def look_at_bytes(self, object_id: str) -> None:
        read = {object_id: self.product.read(object_id)}
        if differs := differences({"bytes": {object_id: self.model.bytes[object_id]}}, {"bytes": read}):
            raise self.disagreement(differs)

    def delete_everything(self) -> None:
        """By the rules: what stands in the way of what goes first."""
        for instance in list(self.model.instances.values()):
            if instance.state == instance.STATE_RUNNING:
                self.ask(instances.StopInstanceRequest(instance_id=instance.id))
            self.ask(instances.DeleteInstanceRequest(instance_id=instance.id))
        for whole_id in list(self.model.wholes):
            self.ask(wholes.DeleteInstanceSnapshotRequest(instance_snapshot_id=whole_id))
        for snapshot_id in list(self.model.snapshots):
            self.ask(disk_snapshots.DeleteDiskSnapshotRequest(snapshot_id=snapshot_id))
        for disk_id in list(self.model.disks):
            self.ask(disks.DeleteDiskRequest(disk_id=disk_id))

    def disagreement(self, what: str) -> "Disagreement":
        return Disagreement(f"{self.history.told()}\n{self.history.nicknamed(what)}")


def _agree(model: Rules, request: Message, answer: Answer) -> None:
    refused = isinstance(answer, grpc.RpcError)
    try:
        expected = model.answer(request, empty_answer(request) if refused else answer)
    except Refused as refusal:
        if not refused:
            raise AssertionError(f"the product accepted; by the rules: {refusal}") from None
        try:
            refusal.is_what(answer)
        except AssertionError as error:
            raise AssertionError(f"{error}\nby the rules: {refusal}") from None
        return
    assert not refused, f"the product refused, and the rules do not: {answer.code()}: {answer.details()}"
    shown = plain(answer)
    assert shown == expected, f"the product answered:\n{shown}\nby the rules:\n{expected}"


def _all_of(model: Rules) -> dict[str, dict[str, Any]]:
    return {
        "instance": model.instances,
        "disk": model.disks,
        "disk_snapshot": model.snapshots,
        "instance_snapshot": model.wholes,
        "bytes": model.bytes,
    }
