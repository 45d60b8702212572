"""Walks a list RPC a page at a time, and never asks for a page that nobody reads."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

MOST_PER_PAGE = 500


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


PageT = TypeVar("PageT", bound=_Page)
ItemT = TypeVar("ItemT")


def each(fetch: Callable[[str], PageT], items: Callable[[PageT], Iterable[ItemT]]) -> Iterator[ItemT]:
    """Every item of every page; `fetch` gets the page token."""
    token = ""
    while True:
        page = fetch(token)
        yield from items(page)
        token = page.next_page_token
        if not token:
            return


def page_size(limit: int) -> int:
    """The page that shows `limit` items and tells whether there are more; a limit of 0 is none."""
    return min(limit + 1, MOST_PER_PAGE) if limit else MOST_PER_PAGE
