from pathlib import Path

from stillpoint_cli.addresses import DEFAULT_ADDRESSES, Addresses, Endpoint, Service, find_addresses

RUNNING = Addresses.on_loopback(
    {Service.COMPUTE: (20001, 20002), Service.DISK: (20003, 20004), Service.SNAPSHOT: (20005, 20006)}
)
NOTHING_CHOSEN = dict.fromkeys(Service)


def test_without_any_hint_the_default_ports_are_used(tmp_path: Path):
    assert find_addresses(NOTHING_CHOSEN, {"STILLPOINT_DIR": str(tmp_path)}) == DEFAULT_ADDRESSES


def test_a_running_deployment_is_found_in_its_folder(tmp_path: Path):
    RUNNING.write(tmp_path)
    assert find_addresses(NOTHING_CHOSEN, {"STILLPOINT_DIR": str(tmp_path)}) == RUNNING


def test_an_address_that_was_chosen_wins_over_the_folder(tmp_path: Path):
    RUNNING.write(tmp_path)
    environment = {"STILLPOINT_DIR": str(tmp_path), "STILLPOINT_DISK_INTERNAL": "10.0.0.1:1"}
    found = find_addresses({Service.DISK: "10.0.0.1:2"}, environment)
    assert found.disk == Endpoint(public="10.0.0.1:2", internal="10.0.0.1:1")
    assert found.compute == RUNNING.compute
