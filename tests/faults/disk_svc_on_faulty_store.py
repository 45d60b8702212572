"""The tests' composition root of disk_svc: the service as it is, over a block store that fails on demand."""

from disk_svc.__main__ import serve
from disk_svc.blockstore import LmdbBlockStore
from disk_svc.settings import Settings
from tests.faults.store import faulty


def main() -> None:
    settings = Settings()
    serve(settings, faulty(LmdbBlockStore(settings.store_path)))


if __name__ == "__main__":
    main()
