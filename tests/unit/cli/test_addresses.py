from collections.abc import Mapping
from pathlib import Path

import pytest
import typer

from stillpoint_cli.addresses import DEFAULT_ADDRESSES, Addresses, Chosen, Endpoint, Service, folder_of
from stillpoint_cli.errors import Failure
from stillpoint_cli.parsing import parse_address
from stillpoint_cli.regions import Found, find_deployment


def addresses_from(first_port: int) -> Addresses:
    ports = iter(range(first_port, first_port + 9))
    return Addresses.on_loopback({service: (next(ports), next(ports), next(ports)) for service in Service})


RUNNING, NEIGHBOUR = addresses_from(20001), addresses_from(20101)


def run(folder: Path, regions: Mapping[str, Addresses]) -> None:
    for region, addresses in regions.items():
        folder_of(folder, region).mkdir(exist_ok=True)
        addresses.write(folder_of(folder, region))


def find(folder: Path, region: str = "", public: Mapping[Service, str] | None = None) -> Addresses:
    return find_deployment(Chosen(region, public or {}), {"STILLPOINT_DIR": str(folder)}).addresses


def test_without_any_hint_the_default_ports_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert find_deployment(Chosen(), {}).addresses == DEFAULT_ADDRESSES


def test_fails_when_nothing_runs_on_the_folder_that_is_named_unless_no_address_is_needed_from_it(
    tmp_path: Path,
):
    with pytest.raises(Failure, match=r"nothing runs on .*, which STILLPOINT_DIR names"):
        find(tmp_path)
    public = dict.fromkeys(Service, "10.0.0.1:1")
    assert find(tmp_path, public=public).disk.public == "10.0.0.1:1"


def test_who_names_the_folder_of_the_region_itself_is_told_to_name_the_one_that_it_is_in(tmp_path: Path):
    run(tmp_path, {"eu": NEIGHBOUR})
    assert find(tmp_path / "eu") == NEIGHBOUR
    with pytest.raises(Failure, match=rf"export STILLPOINT_DIR={tmp_path}$"):
        find(tmp_path / "eu", "eu")


def test_a_running_deployment_is_found_in_its_folder(tmp_path: Path):
    run(tmp_path, {"local": RUNNING})
    assert find(tmp_path) == RUNNING
    assert find(tmp_path, "local") == RUNNING


def test_an_address_that_was_chosen_wins_over_the_folder(tmp_path: Path):
    run(tmp_path, {"local": RUNNING})
    environment = {"STILLPOINT_DIR": str(tmp_path), "STILLPOINT_DISK_INTERNAL": "10.0.0.1:1"}
    found = find_deployment(Chosen(public={Service.DISK: "10.0.0.1:2"}), environment).addresses
    assert found.disk == Endpoint("10.0.0.1:2", "10.0.0.1:1", RUNNING.disk.metrics)
    assert found.compute == RUNNING.compute


def test_the_only_region_that_runs_need_not_be_named(tmp_path: Path):
    run(tmp_path, {"eu": NEIGHBOUR})
    assert find(tmp_path) == NEIGHBOUR


def test_of_several_regions_the_named_one_is_found(tmp_path: Path):
    run(tmp_path, {"local": RUNNING, "eu": NEIGHBOUR})
    assert find(tmp_path, "local") == RUNNING
    assert find(tmp_path, "eu") == NEIGHBOUR


def test_fails_when_several_regions_run_and_none_is_named(tmp_path: Path):
    run(tmp_path, {"us": RUNNING, "eu": NEIGHBOUR})
    with pytest.raises(Failure, match=r"several regions run on .*: eu, us\. Name one: --region eu"):
        find(tmp_path)


@pytest.mark.parametrize(("running", "said"), [({}, "none"), ({"us": RUNNING, "eu": NEIGHBOUR}, "eu, us")])
def test_fails_when_the_named_region_does_not_run_and_says_which_do(
    tmp_path: Path, running: Mapping[str, Addresses], said: str
):
    run(tmp_path, running)
    with pytest.raises(Failure, match=rf"region asia does not run on .*\. Running there: {said}\."):
        find(tmp_path, "asia")


def test_who_names_every_address_need_not_name_a_region(tmp_path: Path):
    run(tmp_path, {"us": RUNNING, "eu": NEIGHBOUR})
    public = {service: f"10.0.0.1:{number}" for number, service in enumerate(Service)}
    found = find(tmp_path, public=public)
    assert {service: found.of(service).public for service in Service} == public


def test_a_login_is_for_when_nothing_runs_on_the_folder_and_only_default_ports_are_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    nothing = find_deployment(Chosen(public={Service.DISK: "a:1,b:1"}), {})
    assert nothing.addresses.disk.public == "a:1,b:1"
    assert "a:1,b:1" not in nothing.guessed
    assert DEFAULT_ADDRESSES.compute.public in nothing.guessed
    assert find_deployment(Chosen(), {}, NEIGHBOUR) == Found(NEIGHBOUR, frozenset())
    (tmp_path / "var").mkdir()
    RUNNING.write(tmp_path / "var")
    assert find_deployment(Chosen(), {}, NEIGHBOUR) == Found(RUNNING, frozenset())


@pytest.mark.parametrize("text", ["a", "a:", ":1", "a:1,", "a:b", "a:70000", ""])
def test_what_is_no_address_is_refused(text: str):
    with pytest.raises(typer.BadParameter, match="is not HOST:PORT"):
        parse_address(text)


def test_an_address_may_be_those_of_several_replicas():
    assert parse_address("a:1, [::1]:2,10.0.0.1:3") == "a:1,[::1]:2,10.0.0.1:3"
