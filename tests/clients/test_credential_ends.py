"""A credential of a device ends, and with it the connections that were made by it, and no others."""

import pytest

import postgres_process

from paho_client import Client
from test_access import publish
from test_http_api import KEYS
from test_http_registry import call


@pytest.fixture
def node(start_node, variables):
    return start_node(http=True, variables=variables, settings=["auth.remember_secs=300"])


def made(node, name):
    """The secret of a new device."""
    return call(node, "POST", "/api/v1/devices", {"id": name})["secret"]


def rotated(node, name, grace_secs):
    """Another secret; the old one remains valid for this time."""
    body = {"grace_secs": grace_secs}
    return call(node, "POST", f"/api/v1/devices/{name}/rotate", body)["secret"]


def device(node, name, secret):
    return Client(node, name).credentials(name, secret)


def is_let_in(node, name, secret):
    return publish(node, f"d/{name}/x", "-i", name, "-u", name, "-P", secret)[0] == 0


def test_who_came_by_the_new_one_stays_when_a_grace_ends(node):
    """Whether it was looked for at that, or remembered."""
    old = {name: made(node, name) for name in ("asked", "remembered", "late")}
    with device(node, "late", old["late"]) as late:
        new = {name: rotated(node, name, 3) for name in ("asked", "remembered")}
        # It ends last.
        rotated(node, "late", 4)
        with device(node, "remembered", new["remembered"]):
            pass
        with device(node, "asked", new["asked"]) as asked, \
                device(node, "remembered", new["remembered"]) as remembered:
            late.wait_for_end()
            for name, connected in (("asked", asked), ("remembered", remembered)):
                connected.publish(f"d/{name}/x", "still here", qos=1)
    for name in old:
        assert not is_let_in(node, name, old[name])


def test_one_that_is_taken_back_ends_who_came_by_it_alone(node):
    made(node, "pump")
    path = "/api/v1/devices/pump/credentials"
    one, other = (call(node, "POST", path, {}) for _ in range(2))
    with device(node, "pump", other["secret"]) as connected:
        call(node, "DELETE", f"{path}/{one['id']}")
        assert not is_let_in(node, "pump", one["secret"])
        connected.publish("d/pump/x", "still here", qos=1)
        call(node, "DELETE", f"{path}/{other['id']}")
        connected.wait_for_end()


def test_a_grace_ends_while_the_database_is_away(start_node):
    server = postgres_process.Server()
    try:
        variables = {**KEYS, "MARTLET_REGISTRY__URL": server.new_database()}
        node = start_node(http=True, variables=variables)
        secret = made(node, "pump")
        with device(node, "pump", secret) as connected:
            rotated(node, "pump", 2)
            server.stop()
            connected.wait_for_end()
            assert not is_let_in(node, "pump", secret)
        server.start()
    finally:
        server.close()
