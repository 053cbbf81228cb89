"""More faults that a stranger put to `martlet why`: topics, rules, roles, Wills, listeners with users of their own and
keys by HTTP. The headline is the fault, and the command that is printed ends it."""

import json

import pytest

import martlet_process
from paho_client import Client
from test_access import mosquitto_passwd, until
from why_faults import Faults, boss, node, published, reason_of  # noqa: F401


def printed(node, *arguments):
    return martlet_process.run("why", *arguments, "--data-dir", str(node.place.path)).stdout


# Topics and rules


def refused(client, topic):
    """A subscription that the node refuses."""
    [code] = client.subscribe(topic, 1)
    return code >= 0x80


def test_a_shared_subscription_of_another_broker_is_refused(node):  # noqa: F811
    node.user("worker", "--role", "user")
    with node.client("worker", client_id="worker1") as client:
        assert refused(client, "$shared/g/jobs/#")
        for asked in (["worker1"], ["worker1", "jobs/1"]):
            told = node.headline("not-permitted", "$shared/g/jobs/#", *asked)
            assert "$share/g/jobs/# is meant" in told["sentence"], told
            assert "subscribe to $share/g/jobs/#" in told["remedy"] and "command" not in told, told
    with node.client("worker", client_id="worker1") as client:
        client.subscribe("$share/g/jobs/#", 1)
        node.over("worker1")


def test_the_slash_of_a_client_identifier_keeps_a_rule_from_matching(node):  # noqa: F811
    node.run("role", "add", "halls", "--rule", "pattern write site/%c/#")
    node.user("porter", "--role", "halls")
    with node.client("porter", client_id="hall/3") as client:
        assert not published(client, "site/hall/3/t")
        for asked in (["hall/3"], ["hall/3", "site/hall/3/t"]):
            told = node.headline("not-permitted", "no rule permits it", *asked)
            assert "the Client Identifier hall/3 of the client has / in it, so that rules with %c" in told["remedy"], told
            assert "may publish to" not in told["sentence"] and "command" not in told, told
    with node.client("porter", client_id="hall-3") as client:
        assert published(client, "site/hall-3/t")
        node.over("hall-3")


def test_rules_before_the_first_user_are_for_clients_without_a_name(tmp_path):
    acl = tmp_path / "acl"
    acl.write_text("topic read news/#\n\nuser eve\ntopic readwrite #\n")
    passwords = mosquitto_passwd(tmp_path / "passwords", ("dan", "secret"), ("eve", "secret"))
    faults = Faults(settings=(f"auth.password_file={passwords}", f"auth.acl_file={acl}"))
    faults.user("boss", "--role", "administrator")
    with faults.start() as node, node.client("dan", client_id="dan1") as client:
        client.subscribe("news/#", 1)
        told = node.headline("not-permitted", "no rule permits it", "dan1", "news/1")
        assert "line 1 (news/#) stands before the first user line" in told["remedy"], told
        assert "for clients without a user name alone" in told["remedy"], told
        with acl.open("a") as file:
            file.write("user dan\ntopic read news/#\n")
        node.run("reload")
        node.over("dan1", "news/1")


def test_a_device_uses_the_topics_of_another_type(node):  # noqa: F811
    secret = node.device("flow1", "--type", "iotflow")
    with node.client("flow1", secret) as device:
        assert refused(device, "d/flow1/commands/+")
        for asked in (["flow1"], ["flow1", "d/flow1/commands/+"]):
            told = node.headline("not-permitted", "d/flow1/commands/+", *asked)
            assert "have the client use iotflow/devices/flow1/commands/+, which" in told["remedy"], told
    with node.client("flow1", secret) as device:
        assert not refused(device, "iotflow/devices/flow1/commands/+")
        node.over("flow1")


def test_a_user_has_no_role(node):  # noqa: F811
    node.user("anna", "--role", "none")
    with node.client("anna", client_id="anna1") as client:
        assert not published(client, "plant/x")
    for asked in (["anna"], ["anna1", "plant/x"]):
        told = node.headline("not-permitted", "no rule permits it", *asked)
        assert "the role none, which permits nothing" in told["remedy"], told
    assert told["command"].endswith("anna") and "--role=user" in told["command"], told
    node.bash(told)
    with node.client("anna", client_id="anna1") as client:
        assert published(client, "plant/x")
        node.over("anna1")


# Addresses


def test_an_address_of_a_device_of_another_tenant():
    with Faults() as node:
        node.run("team", "add", "north", "--own-tenant")
        secret = node.device("mv-1", "--team", "north")
        until(lambda: not node.comes("mv-1", secret), "it is refused")
        told = node.headline("unknown-name", "the device mv-1 belongs to another tenant", "127.0.0.1")
        assert "set the User Name of the client to mv-1@north" in told["remedy"] and "command" not in told, told
        assert told["remedy"] == node.why("mv-1")["remedy"], told
        assert node.comes("mv-1@north", secret, "mv-1")
