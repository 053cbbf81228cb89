"""Faults of keys that are put to `martlet why`: provisioning keys of devices that register by MQTT, and keys
that are given as a password. The headline is the fault, and what it advises ends it."""

import json
import re

import pytest

from paho_client import Client
from test_access import publish
from why_faults import Faults, printed_secret, reason_of

RESPONSE, REGISTER = "iotflow/discovery/response/", "iotflow/discovery/register/"
UNKNOWN = "mp_0000000000000000000000000000000000000000000"
API_KEY = "mk_0000000000000000000000000000000000000000000"


def discovery(path, where):
    """A node where devices register, with a device: its key stands in the password, or in the payload too."""
    (path / "martlet.toml").write_text(f"""
[auth]
enabled = "on"
[[listeners]]
url = "mqtt://127.0.0.1:0"
discovery = "{where}"
""")
    faults = Faults(listen=(), arguments=("-c", str(path / "martlet.toml")))
    faults.device("other")
    return faults


def new_key(faults, *options):
    added = faults.run("provision", "add", "line", *options)
    return re.search(r"shown this once: (\S+)", added).group(1)


def is_refused(faults, name, password):
    return reason_of(Client(faults.node, name).credentials(name, password).start()).is_failure


def registers(faults, name, key=None, shown=None):
    """The answer to a registration, with the key as the password or in the payload."""
    client = Client(faults.node, name)
    if shown:
        client.credentials(name, shown)
    with client:
        client.subscribe(RESPONSE + name, 1)
        client.publish(REGISTER + name, json.dumps({"provisioning_key": key} if key else {}))
        return json.loads(client.receive().payload)


@pytest.mark.parametrize("where", ["password", "payload"])
def test_a_device_registers_with_an_unknown_key_as_its_password(tmp_path, where):
    with discovery(tmp_path, where) as node:
        key = new_key(node)
        assert is_refused(node, "sensor-9", UNKNOWN)
        told = node.headline("provisioning-key-wrong", "there is no such provisioning key", "sensor-9")
        assert not any("no user of that name" in one["sentence"] for one in told["also"]), told
        assert "line" in node.bash(told)
        made = registers(node, "sensor-9", shown=key)
        assert node.comes("sensor-9", made["password"])
        node.over("sensor-9")


def test_a_device_registers_with_an_unknown_key_in_its_payload(tmp_path):
    with discovery(tmp_path, "payload") as node:
        key = new_key(node)
        assert registers(node, "sensor-8", UNKNOWN)["error"] == "invalid_key"
        told = node.headline("provisioning-key-wrong", "there is no such provisioning key", "sensor-8")
        assert "line" in node.bash(told)
        made = registers(node, "sensor-8", key)
        assert node.comes("sensor-8", made["password"])
        node.over("sensor-8")


def test_a_device_registers_with_a_key_that_was_revoked(tmp_path):
    with discovery(tmp_path, "password") as node:
        key = new_key(node)
        [listed] = json.loads(node.run("provision", "ls", "--json"))["items"]
        node.run("provision", "rm", listed["id"])
        assert is_refused(node, "sensor-7", key)
        told = node.headline("provisioning-key-ended", "the provisioning key was revoked", "sensor-7")
        assert "martlet provision add" in told["remedy"], told
        node.bash(told)
        made = registers(node, "sensor-7", shown=new_key(node))
        assert node.comes("sensor-7", made["password"])
        node.over("sensor-7")


@pytest.fixture(scope="module")
def node():
    faults = Faults()
    # Without anybody in its tables it lets everybody in.
    faults.user("boss")
    with faults.start():
        yield faults


def unseen(faults, key):
    """A key that was shown is in no answer and no line of the journal."""
    return key not in json.dumps(faults.why("ann")) + faults.run("logs", "--json")


def kinds(faults):
    """A key of each kind that exists, and words that name the kind."""
    return {
        "api": (printed_or_last(faults.run("key", "add", "backend", "--scope", "administrator")), "an API key"),
        "provisioning": (new_key(faults), "a provisioning key"),
    }


def printed_or_last(text):
    return re.search(r"mk_\S+", text).group(0)


@pytest.mark.parametrize("kind", ["api", "provisioning"])
def test_a_key_is_given_as_the_password_of_a_device(node, kind):
    name = f"lamp-{kind}"
    node.device(name)
    key, words = kinds(node)[kind]
    assert not node.comes(name, key)
    told = node.headline("key-as-password", f"the password has the form of {words}", name)
    assert f"wrong credential for device {name}" in told["sentence"] and "the secret of the device" in told["remedy"], told
    assert node.comes(name, printed_secret(node.bash(told)))
    node.over(name)
    assert key not in json.dumps(told) + node.run("logs", "--json")


def test_a_key_is_given_as_the_password_of_a_user(node):
    node.user("ann")
    assert not node.comes("ann", API_KEY)
    told = node.headline("key-as-password", "the password has the form of an API key", "ann")
    assert "the user's password" in told["remedy"], told
    node.bash(told, given="a-new-password\n")
    assert node.comes("ann", "a-new-password")
    node.over("ann")
    assert unseen(node, API_KEY)


@pytest.mark.parametrize("key", [API_KEY, UNKNOWN])
def test_a_key_is_given_as_the_password_of_an_unknown_name(node, key):
    name = f"nobody-{key[:2]}"
    assert not node.comes(name, key)
    node.headline("key-as-password", "no user of that name", name)
    node.device(name)
    told = node.headline("key-as-password", "the password has the form of", name)
    assert node.comes(name, printed_secret(node.bash(told)))
    node.over(name)
    assert key not in json.dumps(told) + node.run("logs", "--json")


def test_a_client_is_not_told_that_it_gave_a_key(node):
    """Whoever guesses is told the same of every name and password."""
    node.device("quiet")
    said = {publish(node.node, "d/quiet/x", "-V", "5", "-u", name, "-P", password, "-i", name)[1]
            for name in ("quiet", "stranger") for password in (API_KEY, UNKNOWN, "wrong")}
    assert len(said) == 1, said
