"""Questions of `martlet why` about what is not there under that name: clients of other tenants, and addresses."""

import pytest

from why_faults import Faults


@pytest.fixture(scope="module")
def node():
    with Faults() as faults:
        faults.user("boss", "--role", "administrator")
        yield faults


def test_a_client_of_a_team_is_asked_for_by_its_client_identifier_alone(node):
    node.run("team", "add", "north", "--own-tenant")
    node.user("nb", "--team", "north", "--role", "administrator")
    with node.client("nb", client_id="backend-1"):
        told = node.headline("nobody-known", "backend-1 is connected in another tenant", "backend-1")
        # Nobody is added: the command asks about the client that is there.
        assert "nothing of it was refused or lost" in node.bash(told)


def test_an_address_is_not_the_name_of_a_device(node):
    told = node.headline("nobody-known", "no connection from 192.0.2.7 was refused", "192.0.2.7")
    assert "command" not in told and " add " not in told.get("remedy", ""), told
