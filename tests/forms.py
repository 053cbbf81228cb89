"""The forms of a run, a plugin of pytest: which tests it has, and in which order their files begin.

    quick   the files of QUICK: what a newcomer runs
    all     everything but the tests that are marked `long`
    long    the tests that are marked `long`, and those that are marked `timed` with their times

The names of tests that failed are written to a file, so that they can be repeated alone (see `run`).
"""

import collections
import pathlib

import pytest

# One file for each thing that people come for.
QUICK = {
    "test_1_microservice.py", "test_2_panel_broker.py", "test_4_service_mqtt.py", "test_access.py", "test_events.py",
    "test_first_steps.py", "test_http_broker.py", "test_http_registry.py", "test_integrations.py",
    "test_mosquitto_clients.py", "test_mosquitto_conf.py", "test_operation.py", "test_paho.py", "test_registry.py",
    "test_rules.py", "test_telemetry.py", "test_tls.py", "test_webhooks.py", "test_why.py",
}
# Files with their seconds, written by `tests/run all --write-slowest`.
SLOWEST = pathlib.Path(__file__).with_name("slowest.txt")
SLOWEST_COUNT = 60


def pytest_addoption(parser):
    group = parser.getgroup("forms of a run")
    group.addoption("--form", choices=["quick", "all", "long"], help="which tests the run has")
    group.addoption("--failed-to", metavar="FILE", help="where the names of failed tests are written")
    group.addoption("--write-slowest", action="store_true", help=f"write {SLOWEST.name}, which orders the files")


def pytest_configure(config):
    # With pytest-xdist the process that deals out the tests hears of all of them.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcome(config))


def slowest():
    """Seconds of each of the files that take longest, by name."""
    lines = SLOWEST.read_text(encoding="utf-8").splitlines() if SLOWEST.exists() else []
    return {name: int(seconds) for seconds, name in map(str.split, lines)}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    form = config.getoption("--form")
    if not form:
        return
    wanted = {
        "quick": lambda item: item.path.name in QUICK and not item.get_closest_marker("long"),
        "all": lambda item: not item.get_closest_marker("long"),
        "long": lambda item: bool(item.get_closest_marker("long") or item.get_closest_marker("timed")),
    }[form]
    left_out = [item for item in items if not wanted(item)]
    config.hook.pytest_deselected(items=left_out)
    seconds = slowest()
    # A file keeps the order of its tests.
    items[:] = sorted(filter(wanted, items), key=lambda item: (-seconds.get(item.path.name, 0), item.path.name))


class Outcome:
    """Which tests failed, and how long each file took."""

    def __init__(self, config):
        self.failed_to = config.getoption("--failed-to")
        self.writes_slowest = config.getoption("--write-slowest")
        self.failed, self.took = set(), collections.Counter()

    def pytest_runtest_logreport(self, report):
        self.took[pathlib.Path(report.location[0]).name] += report.duration
        if report.failed and report.nodeid not in self.failed:
            self.failed.add(report.nodeid)
            # At once: a run that is stopped has named what failed until then.
            if self.failed_to:
                with open(self.failed_to, "a", encoding="utf-8") as file:
                    file.write(f"{report.nodeid}\n")

    def pytest_sessionfinish(self):
        if self.writes_slowest:
            lines = (f"{round(seconds):5} {name}\n" for name, seconds in self.took.most_common(SLOWEST_COUNT))
            SLOWEST.write_text("".join(lines), encoding="utf-8")
