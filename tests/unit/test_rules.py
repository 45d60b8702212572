"""docs/rules.md goes through spec.md sentence by sentence, and what it names is there: it cannot rot unseen."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SPEC, DESIGN, RULES = (ROOT / "docs" / f"{name}.md" for name in ("spec", "design", "rules"))


@dataclass(frozen=True, slots=True)
class Row:
    """A rule, where it is enforced, and what shows it."""

    rule: str
    where: str
    shown_by: str

    @property
    def is_no_rule(self) -> bool:
        return self.where.startswith("No rule: ")

    def files(self) -> list[str]:
        """What is quoted and is no command."""
        return [quoted for quoted in re.findall(r"`([^`]+)`", self.where) if re.fullmatch(r"\S+/\S+", quoted)]

    def tests(self) -> list[str]:
        return re.findall(r"`([^`]+)`", self.shown_by)


@dataclass(frozen=True, slots=True)
class Heading:
    text: str


def sentences_of_spec() -> Iterator[Heading | str]:
    """The page below the line: a heading is alone on its line, without a full stop, and no item of a list."""
    for line in page().splitlines():
        text = line.strip().removeprefix("- ")
        if not text:
            continue
        sentences = re.split(r"(?<=[.;])\s+(?=[A-Z])", text) if not re.match(r"\d+\. ", text) else [text]
        if len(sentences) == 1 and not line.startswith("- ") and not text.endswith((".", ";")):
            yield Heading(text)
        else:
            yield from sentences


def page() -> str:
    return SPEC.read_text().split("\n---\n", 1)[1]


def rules_of_design() -> Iterator[Heading | str]:
    """§4's table: the operation is the heading, what it is allowed for falls into its parts."""
    section = DESIGN.read_text().partition("\n## 4. Rules\n")[2].partition("\n## ")[0]
    _, _, *rows = [line for line in section.splitlines() if line.startswith(("| ", "|-"))]
    for row in rows:
        operation, allowed = row.removeprefix("| ").removesuffix(" |").split(" | ")
        yield Heading(operation)
        yield from re.split(r"; |(?<=\.) (?=[A-Z])", allowed)


def rules_about(page_name: str) -> Iterator[Heading | Row]:
    section = RULES.read_text().partition(f"\n## {page_name}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("### "):
            yield Heading(line.removeprefix("### "))
        elif line.startswith("| ") and not line.startswith("| the rule |"):
            rule, where, shown_by = (
                cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")
            )
            yield Row(rule, where, shown_by)


def quoted(about: Iterator[Heading | Row]) -> list[Heading | str]:
    return [each.rule if isinstance(each, Row) else each for each in about]


ROWS = [
    each
    for page_name in ("spec.md", "design.md §4")
    for each in rules_about(page_name)
    if isinstance(each, Row)
]


def test_the_page_falls_into_sentences_without_losing_a_word():
    pieces = [each.text if isinstance(each, Heading) else each for each in sentences_of_spec()]
    words = [word for line in page().splitlines() for word in line.removeprefix("- ").split()]
    assert " ".join(pieces).split() == words
    assert "Instance Snapshots consume the Manual Snapshot quota." in pieces


def test_every_sentence_of_the_page_is_quoted_in_its_order():
    assert quoted(rules_about("spec.md")) == list(sentences_of_spec())


def test_every_rule_of_the_design_is_quoted_in_its_order():
    assert quoted(rules_about("design.md §4")) == list(rules_of_design())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule[:40])
def test_a_rule_names_where_it_is_enforced_and_what_shows_it(row: Row):
    if row.is_no_rule:
        assert (row.files(), row.tests()) == ([], [])
        return
    assert row.files()
    assert row.tests()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.rule[:40])
def test_what_a_rule_names_is_there(row: Row):
    assert [file for file in row.files() if not (ROOT / file).is_file()] == []
    assert [test for test in row.tests() if not is_a_test(test)] == []


def is_a_test(name: str) -> bool:
    file, *path = name.split("::")
    return bool(path) and (ROOT / file).is_file() and "::".join(path) in names_of_tests(ROOT / file)


@cache
def names_of_tests(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


def test_what_the_code_quotes_from_the_page_is_in_it():
    quotes = [
        (file.relative_to(ROOT), quote)
        for folder in ("compute_svc", "disk_svc", "snapshot_svc", "svckit")
        for file in (ROOT / folder).rglob("*.py")
        for quote in re.findall(r'spec\.md: "(.+?)(?:"""|\Z)', file.read_text(), re.DOTALL)
    ]
    assert len(quotes) > 10
    assert [(file, quote) for file, quote in quotes if not is_of_the_page(" ".join(quote.split()))] == []


def is_of_the_page(text: str) -> bool:
    """The text goes on after the quotation: as far as it is the page's, the next thing is a quotation mark."""
    spec = " ".join(page().split())
    length = next(length for length in range(len(text), -1, -1) if text[:length] in spec)
    return text[length : length + 1] == '"'
