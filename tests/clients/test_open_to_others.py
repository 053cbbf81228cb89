"""A fresh node that other machines reach: it starts, demands credentials, and lets in whoever has some, whichever way
credentials can come. A node for this machine says how it is opened to others."""

import json
import re
import urllib.request

import pytest

import martlet_process
from test_access import publish
from test_hook import hook  # noqa: F401
from test_http_api import KEYS
from test_http_registry import call
from test_jwt import Signer

EVERYWHERE = ("mqtt://0.0.0.0:0",)
NOBODY = "and there are none yet: add a user"


def device_of(node):
    made = call(node, "POST", "/api/v1/devices", {"id": "pump"})
    return made["id"], made["secret"]


def provisioned(node):
    done = martlet_process.run("provision", "add", "line", "--json", "--data-dir", node.data_dir)
    key = json.loads(done.stdout)["key"]
    body = json.dumps({"key": key, "id": "pump"}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{node.http_url}/api/v1/provision", body, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        made = json.load(answer)
    return made["id"], made["secret"]


def added(node):
    done = martlet_process.run("device", "add", "pump", "--json", "--data-dir", node.data_dir)
    return "pump", json.loads(done.stdout)["secret"]


# How credentials come, and whether the start says that nobody has some yet.
WAYS = {
    "an HTTP listener and a key": ({"http": True, "variables": KEYS}, device_of, True),
    "a provisioning key": ({"http": True}, provisioned, True),
    "a command": ({}, added, True),
    "a hook": ({"settings": ["auth.hook_url=HOOK", "auth.registry=off"]}, lambda _: ("key", "secret"), False),
    "a token": ({"settings": ["auth.jwt_keys=TOKEN", "auth.jwt_algorithm=HS256", "auth.registry=off"]}, None, False),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_starts_whichever_way_credentials_come(start_node, tmp_path, hook, way):  # noqa: F811
    options, credentials, is_told = WAYS[way]
    signer = Signer(tmp_path, "HS256")
    places = {"HOOK": hook.url, "TOKEN": str(signer.file)}
    settings = [re.sub("HOOK|TOKEN", lambda found: places[found[0]], one) for one in options.get("settings", [])]
    node = start_node(**{**options, "settings": settings}, listen=EVERYWHERE)
    assert "clients need credentials" in node.announced and (NOBODY in node.log()) == is_told, node.log()
    assert publish(node, "t")[0] != 0
    user, password = credentials(node) if credentials else ("device-7", signer.token())
    assert publish(node, f"d/{user}/t", "-i", user, "-u", user, "-P", password)[0] == 0, node.log()
    assert publish(node, "t", "-i", "stranger")[0] != 0


def test_only_a_node_with_http_is_told_of_its_requests(tmp_path):
    for http, is_told in (("127.0.0.1:0", True), ("off", False)):
        options = ("--listen", EVERYWHERE[0], "--http", http, "--data-dir", str(tmp_path))
        done = martlet_process.run("config", "check", *options)
        assert NOBODY in done.stdout and ("POST /api/v1/devices" in done.stdout) == is_told, done


def test_where_no_credentials_can_come_it_does_not_start(tmp_path):
    done = martlet_process.run("serve", "--listen", EVERYWHERE[0], "--set", "auth.registry=off", "--http", "off",
                               "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 1 and "no client could connect: auth.registry is off" in done.stderr, done


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_node_for_this_machine_says_how_it_is_opened_to_others(start_node, form):
    node = start_node(arguments=["--log-format", form])
    told = node.announced if form == "text" else [json.loads(node.announced[-1])["access"]]
    begin = "MQTT is open to every client on this machine, closed to all others"
    [access] = [line for line in told if line.startswith(begin)]
    # What is printed does it.
    options = access.partition("to open it to them: ")[2]
    assert "--listen mqtt://0.0.0.0" in options and "--allow-anonymous" not in options.partition(",")[0], access
