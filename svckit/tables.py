"""The metadata of the tables that svckit brings into every service's database."""

from sqlalchemy.orm import DeclarativeBase


class SharedTable(DeclarativeBase):
    """Base of `sagas`, `events`, `requests` and `participant_keys`."""
