"""What is told to people: how a history went, in what two sides differ, and how much was compared."""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf import text_format
from google.protobuf.message import Message

from tests.model.product import Answer, reasons_of

_ID = re.compile(r"\b(i|disk|snap|isnap)-[0-9a-z]{12,}\b")
_TOLD_EVERY_STEPS = 500


class History:
    """What was asked and answered, with names for ids that a person can tell apart."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._nicknames: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: str) -> None:
        self._lines.append(self.nicknamed(line))

    def asked(self, request: Message, answer: Answer, how: str = "") -> None:
        name = type(request).__name__.removesuffix("Request")
        self.add(f"{name}({_fields(request)}){how and f' {how}'}: {_outcome(answer)}")

    def told(self) -> str:
        return "\n".join(["", *self._lines])

    def nicknamed(self, text: str) -> str:
        return _ID.sub(self._nickname, text)

    def _nickname(self, found: "re.Match[str]") -> str:
        if found[0] not in self._nicknames:
            self._numbers[found[1]] += 1
            self._nicknames[found[0]] = f"{found[1]}{self._numbers[found[1]]}"
        return self._nicknames[found[0]]


def _fields(request: Message) -> str:
    shown = type(request)()
    shown.CopyFrom(request)
    if "request_id" in shown.DESCRIPTOR.fields_by_name:
        shown.ClearField("request_id")
    return re.sub(r'(?<=data: ")[^"]*(?=")', lambda data: f"{data[0][:4]}…", _one_line(shown))


def _one_line(message: Message) -> str:
    return text_format.MessageToString(message, as_one_line=True, as_utf8=True)


def _outcome(answer: Answer) -> str:
    if isinstance(answer, grpc.RpcError):
        return " ".join([answer.code().name, *sorted(reasons_of(answer))])
    if isinstance(answer, bytes):
        return f"{len(answer)} bytes"
    ids = dict.fromkeys(found[0] for found in _ID.finditer(_one_line(answer)))
    return " ".join(["OK", *ids])


def differences(expected: Mapping[str, Mapping[str, Any]], shown: Mapping[str, Mapping[str, Any]]) -> str:
    """Empty when there are none."""
    lines = []
    for kind, things in expected.items():
        for each in {**things, **shown[kind]}:
            mine, theirs = things.get(each), shown[kind].get(each)
            if mine != theirs:
                lines.append(
                    f"{kind} {each}:\n  product: {_shown(theirs, mine)}\n  rules: {_shown(mine, theirs)}"
                )
    return "\n".join(lines)


def _shown(thing: Any, other: Any) -> str:
    if thing is None:
        return "there is none"
    if isinstance(thing, Message):
        return _one_line(thing)
    others = other if isinstance(other, bytes) else b""
    first = next((place for place, (a, b) in enumerate(zip(thing, others, strict=False)) if a != b), None)
    if first is None:
        return f"{len(thing)} bytes"
    return f"{len(thing)} bytes, at {first} {thing[first : first + 8].hex()}"


class Tally:
    """How much was compared."""

    def __init__(self, tell: Callable[[str], None] = lambda _line: None, goal: int = 0) -> None:
        self._tell = tell
        self._goal = goal
        self._began = time.monotonic()
        self.steps = 0
        self.at_once = 0
        self.disagreements = 0
        self.accepted: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()
        self.no_answer: Counter[str] = Counter()

    def answered(self, request: Message, answer: Answer, *, at_once: bool = False) -> None:
        rpc = type(request).__name__.removesuffix("Request")
        if isinstance(answer, grpc.RpcError):
            self.refused[rpc] += 1
            self.reasons.update(reasons_of(answer))
        else:
            self.accepted[rpc] += 1
        self.at_once += at_once
        self.step()

    def step(self) -> None:
        self.steps += 1
        if self.steps % _TOLD_EVERY_STEPS == 0:
            seconds = time.monotonic() - self._began
            self._tell(
                f"model: {self.steps} of {self._goal} steps, {self.steps / seconds:.0f}/s, {self.kills.total()} kills"
            )

    def disagreed(self, story: str) -> None:
        """The first one is told at once: what a kill or a race has brought about may not come again."""
        if not self.disagreements:
            self._tell(story)
        self.disagreements += 1

    def told(self) -> str:
        calls = sorted(self.accepted | self.refused)
        return "\n".join(
            [
                f"model: {self.steps} steps in {time.monotonic() - self._began:.0f} s",
                f"{self.accepted.total()} accepted, {self.refused.total()} refused, {self.at_once} of both at once",
                f"kills: {dict(self.kills)}; what had no answer then: {dict(self.no_answer)}",
                "accepted + refused: "
                + ", ".join(f"{rpc} {self.accepted[rpc]}+{self.refused[rpc]}" for rpc in calls),
                "reasons: " + ", ".join(f"{reason} {count}" for reason, count in self.reasons.most_common()),
            ]
        )
