"""What instances, disks and snapshots are called and labelled: the options that give it, change it and list by it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, Protocol, TypeVar

import typer
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from rich.text import Text

from stillpoint_cli import parsing
from stillpoint_cli.keeping import Kept
from stillpoint_cli.output import printable
from stillpoint_cli.values import MOMENT_FORMS, parse_moment

FilterT = TypeVar("FilterT", bound=Message)

NAME_HELP = "1 to 65 characters: a letter, then letters, digits, - _ / . and blanks."


class Label(NamedTuple):
    """A label, as it is typed."""

    key: str
    value: str


class Enum(Protocol):
    """A proto's enum."""

    def keys(self) -> Sequence[str]: ...

    def Value(self, name: str) -> int: ...  # noqa: N802 - protobuf's name


def parse_label(text: str) -> Label:
    key, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not a label: write KEY=VALUE")
    return Label(key, value)


def parse_time(text: str) -> Timestamp:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def one_of(values: Enum, prefix: str, what: str) -> Any:
    """An option for a value of a proto's enum, typed as it is printed, in capitals or not."""
    names = {
        name.removeprefix(prefix).lower(): values.Value(name)
        for name in values.keys()  # noqa: SIM118 - no mapping
        if values.Value(name)
    }
    metavar = prefix.removesuffix("_")
    return typer.Option(
        parser=parsing.one_of(names), metavar=metavar, help=f"Only {what}: {', '.join(names)}."
    )


def _labels(purpose: str) -> Any:
    return typer.Option("--label", parser=parse_label, metavar="KEY=VALUE", help=purpose, show_default=False)


# To give

DescriptionOption = Annotated[str, typer.Option(help="What it is for, in your words.", show_default=False)]
LabelOption = Annotated[list[Label] | None, _labels("A label to find it by; once for each.")]

# To change

NewNameOption = Annotated[str | None, typer.Option("--name", help=f"The new name. {NAME_HELP}")]
NewDescriptionOption = Annotated[
    str | None, typer.Option("--description", help='The new description; "" takes it away.')
]
NewLabelOption = Annotated[
    list[Label] | None, _labels("A label; once for each. They take the place of all that it has.")
]
ClearLabelsOption = Annotated[bool, typer.Option("--clear-labels", help="Take all labels away.")]

# To list by

NameOption = Annotated[str, typer.Option(help="Only those of this very name.", show_default=False)]
WithLabelOption = Annotated[
    list[Label] | None, _labels("Only those with this label; once for each, and all must match.")
]
SinceOption = Annotated[
    Timestamp | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME|AGE",
        help=f"Only those of this time or later: {MOMENT_FORMS}; local time.",
        show_default=False,
    ),
]
BeforeOption = Annotated[
    Timestamp | None,
    typer.Option(
        parser=parse_time,
        metavar="TIME|AGE",
        help="Only those of before this time, likewise.",
        show_default=False,
    ),
]


def label_map(labels: Sequence[Label] | None) -> dict[str, str]:
    found = dict(labels or ())
    if labels and len(found) < len(labels):
        raise typer.BadParameter("the same key twice", param_hint="--label")
    return found


def change(
    resource: Any,
    *,
    name: str | None,
    description: str | None,
    labels: Sequence[Label] | None,
    clear_labels: bool,
    keep: Kept | None = None,
) -> FieldMask:
    """Put what was given into the resource of an update; returns the update's mask."""
    if labels and clear_labels:
        raise typer.BadParameter("give labels or --clear-labels, not both", param_hint="--label")
    given: Mapping[str, Any] = {
        "name": name,
        "description": description,
        "labels": label_map(labels) if labels or clear_labels else None,
    }
    changed = {field: value for field, value in given.items() if value is not None}
    if keep is not None:
        changed["expire_time"] = keep.until
    if not changed:
        raise typer.BadParameter("nothing to change; --help lists what can be")
    resource.MergeFrom(type(resource)(**changed))
    return FieldMask(paths=changed)


def narrowed(
    make_filter: Callable[..., FilterT],
    *,
    name: str,
    labels: Sequence[Label] | None,
    since: Timestamp | None,
    before: Timestamp | None,
    **own: Any,
) -> FilterT:
    """A list's filter from the options that all lists share and `own`; what was not given does not narrow it."""
    return make_filter(name=name, labels=label_map(labels), created_from=since, created_before=before, **own)


def described(resource: Any) -> dict[str, str | Text]:
    """What a card shows of it."""
    return {
        "description": Text(printable(resource.description, keep="\n")),
        "labels": ", ".join(f"{key}={resource.labels[key]}" for key in sorted(resource.labels)),
    }
