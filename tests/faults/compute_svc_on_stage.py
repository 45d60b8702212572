"""The tests' composition root of compute_svc: the service as it is, with sagas that a test can stop."""

from compute_svc import __main__ as root
from tests.faults.engine import put_on_stage


def main() -> None:
    put_on_stage(root)
    root.main()


if __name__ == "__main__":
    main()
