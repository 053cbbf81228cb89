"""Kills of the node and power cuts while all its parts are at work: what was acknowledged is found everywhere."""

import os
import random

import pytest

import martlet_process
import postgres_process
from all_parts import Plant
from test_power_cut import Disk, library  # noqa: F401 (a fixture)

KILLS = 500 if martlet_process.IS_LONG else 3
CUTS = 300 if martlet_process.IS_LONG else 2
# After so many all is looked for.
CHECKED = 50


@pytest.fixture
def chance():
    """Chance of one seed, which a failure shows; MARTLET_TEST_SEED has another run do the same."""
    seed = int(os.environ.get("MARTLET_TEST_SEED") or random.randrange(1 << 32))
    print(f"MARTLET_TEST_SEED={seed}")
    return random.Random(seed)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.long)])
def database(request):
    """A server of PostgreSQL for the tables and telemetry, or none."""
    if request.param == "sqlite":
        yield None
        return
    server = postgres_process.Server()
    yield server
    server.close()


def kill(node):
    node.process.kill()
    node.process.wait()
    node.admin.close()
    assert "panicked" not in node.log() and "damaged" not in node.log(), node.log()


@pytest.mark.timed
def test_kills_lose_nothing_that_was_acknowledged_to_or_by_any_part(tmp_path, chance, database):
    plant = Plant(tmp_path, tmp_path / "all.json")
    options = {**plant.options, "data_dir": tmp_path / "data"}
    if database:
        names = ("MARTLET_REGISTRY__URL", "MARTLET_TELEMETRY__URL")
        urls = {name: database.new_database(has_tables=False) for name in names}
        options["variables"] = {**options["variables"], **urls}
    node = martlet_process.Node(**options)
    try:
        plant.begin(node)
        for turn in range(KILLS):
            plant.turn(node, chance.random())
            # The database dies before the node, with it, or not at all.
            how = database and chance.choice(["before", "with", "not"])
            if how == "before":
                database.kill()
                database.start()
                plant.turn(node, chance.random())
            elif how == "with":
                database.kill()
            kill(node)
            if how == "with":
                database.start()
            node = martlet_process.Node(**options)
            if turn % CHECKED == CHECKED - 1:
                plant.check(node)
        plant.check(node)
    finally:
        plant.close()
        node.close()


@pytest.mark.timed
@pytest.mark.parametrize("failing", [{}, pytest.param({"FORGET_FAIL": "40:2"}, marks=pytest.mark.long)],
                         ids=["syncs work", "some syncs fail"])
def test_power_cuts_lose_nothing_that_was_acknowledged_to_or_by_any_part(
        tmp_path, library, chance, failing):  # noqa: F811
    """All that the node writes is in directories that the library watches: those with the name `store`."""
    disk = Disk(tmp_path, library)
    for name in ("tables", "telemetry", "out"):
        (disk.root / name / "store").mkdir(parents=True)
    plant = Plant(tmp_path, disk.root / "out/store/all.json")
    places = {"MARTLET_REGISTRY__URL": str(disk.root / "tables/store/martlet.db"),
              "MARTLET_TELEMETRY__URL": str(disk.root / "telemetry/store/telemetry.db")}
    variables = {**plant.options["variables"], **places}
    options = {**plant.options, "data_dir": disk.root / "data", "variables": {**variables, **disk.variables, **failing}}
    node = martlet_process.Node(**options)
    try:
        plant.begin(node)
        for turn in range(CUTS):
            plant.turn(node, chance.random())
            kill(node)
            disk.cut_power(chance)
            disk.forget()
            node = martlet_process.Node(**options)
            if turn % CHECKED == CHECKED - 1:
                plant.check(node)
        plant.check(node)
    finally:
        plant.close()
        node.close()
