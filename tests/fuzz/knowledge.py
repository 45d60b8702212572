"""What the fuzzer has learned from answers: ids that name something, in the company in which they were met, so that a
disk comes with a snapshot of its own and a step with the key of the one before it.
"""

import re
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from random import Random

from google.protobuf.message import Message

from tests.fuzz.methods import Target

Fact = Mapping[str, str]
"""Ids that belong together, by their prefixes (`i`, `disk`, `snap`, …), and where there is one the key of a step, by the
step's name (`/cut`).
"""

_ID = re.compile(r"(i|disk|snap|isnap|asp|op-[cds])-[0-9a-z-]{20,}")
_REMEMBERED = 300
_LATEST = 12
_MOST_FROM_ONE_ANSWER = 20


class Knowledge:
    """Shared by all clients of one run."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._facts: dict[str, deque[Fact]] = {}
        self._accepted: dict[str, deque[bytes]] = {}
        self._tokens: dict[str, deque[tuple[bytes, str]]] = {}
        self._request_ids: deque[str] = deque(maxlen=_REMEMBERED)

    def learn(self, target: Target, request: Message, responses: list[Message]) -> None:
        """The request was accepted."""
        # Of an instance only who has it speaks: a step is carried out for one that nobody has made.
        asked = [_without(fact, "i") for fact in _facts(request, {})]
        with self._guard:
            self._accepted.setdefault(str(target), deque(maxlen=_REMEMBERED)).append(
                request.SerializeToString()
            )
            told = (fact for response in responses for fact in _facts(response, asked[0]))
            for fact in chain(asked, islice(told, _MOST_FROM_ONE_ANSWER)):
                for kind in fact:
                    self._facts.setdefault(kind, deque(maxlen=_REMEMBERED)).append(fact)
            for response in responses:
                token = getattr(response, "next_page_token", "")
                if token:
                    known = self._tokens.setdefault(str(target), deque(maxlen=_REMEMBERED))
                    known.append((request.SerializeToString(), token))
            if getattr(request, "request_id", ""):
                self._request_ids.append(getattr(request, "request_id"))  # noqa: B009 - not every message has it

    def fact(self, random: Random, *kinds: str) -> Fact:
        """One that has all of these kinds where one is known; else with as many of the first ones as possible."""
        with self._guard:
            for wanted in (kinds[:count] for count in range(len(kinds), 0, -1)):
                facts = self._facts.get(wanted[0], ())
                found = [fact for fact in facts if all(kind in fact for kind in wanted)]
                if found:
                    return random.choice(found[-_LATEST:] if random.random() < 0.5 else found)
        return {}

    def accepted(self, random: Random, target: Target) -> bytes | None:
        """A request that was."""
        with self._guard:
            known = self._accepted.get(str(target))
            return random.choice(known) if known else None

    def page(self, random: Random, target: Target) -> tuple[bytes, str] | None:
        """A request of a list, and the token of the page that follows its answer."""
        with self._guard:
            known = self._tokens.get(str(target))
            return random.choice(known) if known else None

    def request_id(self, random: Random) -> str:
        with self._guard:
            return random.choice(self._request_ids) if self._request_ids else ""


def _without(fact: Fact, kind: str) -> Fact:
    return {each: value for each, value in fact.items() if each != kind}


def _facts(message: Message, company: Fact) -> Iterator[dict[str, str]]:
    """Of a message, itself first, and of those in it."""
    own = dict(company)
    listed: list[tuple[str, str]] = []
    inner: list[Message] = []
    # The message's own id last: of two of a kind it is the one that the others are about.
    for field, value in sorted(message.ListFields(), key=lambda item: item[0].name == "id"):
        for each in value if field.is_repeated else (value,):
            if isinstance(each, Message):
                inner.append(each)
            elif isinstance(each, str) and (met := _ID.fullmatch(each)):
                if field.is_repeated:
                    listed.append((met[1], each))
                else:
                    own[met[1]] = each
        if field.name == "key" and isinstance(value, str) and "/" in value:
            own[value[value.index("/") :]] = value
    yield own
    for kind, each in listed:
        yield {**own, kind: each}
    for each in inner:
        yield from _facts(each, own)
