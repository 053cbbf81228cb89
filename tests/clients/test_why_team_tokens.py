"""Team tokens that are put to `martlet why`, by their key and by the device: the headline is the
fault, and the command that is printed ends it."""

import re

import pytest

from test_access import until
from why_faults import Faults


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    for team in ("plant", "other"):
        faults.run("team", "add", team)
    faults.run("device", "add", "pump", "--team", "plant")
    with faults.start():
        yield faults


def token(text):
    """Key and secret as they are printed."""
    return re.search(r"user name (\w{24})", text).group(1), re.search(r"password +(\w{32})", text).group(1)


def added(node, name):
    return token(node.run("team", "token", "add", "plant", name))


def test_the_secret_is_wrong(node):
    key, _ = added(node, "panel")
    assert not node.comes(key, "wrong", "pump")
    for who in (key, "pump"):
        told = node.headline("wrong-password", "wrong secret of the team token panel of the team plant", who)
    other = node.carry_out(told)["credentials"]
    assert node.comes(other["key"], other["secret"], "pump")
    node.over("pump")


def test_the_token_is_revoked(node):
    key, secret = added(node, "gate")
    assert node.comes(key, secret, "pump")
    listed = node.run("team", "token", "ls", "plant")
    node.run("team", "token", "rm", "plant", re.search(r"^(\S+) +gate", listed, re.M).group(1))
    until(lambda: not node.comes(key, secret, "pump"), "it is revoked")
    for who in (key, "pump"):
        told = node.headline("credential-expired", "the team token gate of the team plant is revoked", who)
    node.carry_out(told)
    until(lambda: node.comes(key, secret, "pump"), "it is restored")
    node.over("pump")


def test_the_device_is_of_another_team(node):
    key, secret = added(node, "third")
    node.run("device", "add", "strange", "--team", "other")
    assert not node.comes(key, secret, "strange")
    for who in (key, "strange"):
        told = node.headline("wrong-client-id", "the team token third is for the devices of the team plant", who)
        assert "a device of the team plant" in told["remedy"]
    node.carry_out(told)
    until(lambda: node.comes(key, secret, "strange"), "it is moved")
    node.over("strange")


def test_there_is_no_such_device(node):
    key, secret = added(node, "fourth")
    assert not node.comes(key, secret, "new-1")
    told = node.headline("wrong-client-id", "it is \"new-1\"", key)
    node.bash(told)
    until(lambda: node.comes(key, secret, "new-1"), "it is added")


def test_no_team_has_the_token(node):
    key = "Aa" * 12
    assert not node.comes(key, "x" * 32, "pump")
    for who in (key, "pump"):
        told = node.headline("unknown-name", "no user of that name", who)
        assert "the key of a team token" in told["remedy"]
    assert "plant" in node.bash(told)


def test_a_device_that_is_away_would_be_let_in(node):
    key, secret = added(node, "fifth")
    told = node.headline("never-connected", f"the team token {key} exists", key)
    assert node.node.url("mqtt") in told["remedy"]
    with node.client(key, secret, "pump"):
        node.over("pump")
    assert "would be refused" not in node.why("pump")["sentence"]
