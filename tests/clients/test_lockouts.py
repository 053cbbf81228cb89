"""Who tries passwords is locked out, and who is at home is not; what is told of it, and to whom."""

import json
import re
import socket
import urllib.request

import martlet_process
from test_access import mosquitto_passwd
from test_doors import configured
from test_http_api import KEY, KEYS
from test_http_registry import call
from test_operation import get
from test_why import expect_of

LET_IN, WRONG, LOCKED_OUT = 0, 0x86, 0x9F
NAT = "192.0.2.1"


def guarded(start_node, tmp_path, *users):
    """A node that bears three wrong credentials, and believes a proxy where clients come from."""
    passwords = mosquitto_passwd(tmp_path / "passwd", *((user, user) for user in users))
    return start_node(listen=(), http=True, variables=KEYS, arguments=configured(tmp_path, f"""
[auth]
lockout_failures = 3
remember_secs = 0
refusal_remember_secs = 0
password_file = "{passwords}"
[[listeners]]
url = "mqtt://127.0.0.1:0"
proxy_from = "127.0.0.1"
"""))


def come(node, name, password, address=NAT):
    """The reason code of CONNACK for who comes by a proxy's word from there."""
    body = b"\x00\x04MQTT\x05\xc2\x00\x3c\x00" + b"".join(
        len(part).to_bytes(2, "big") + part for part in (name.encode(), name.encode(), password.encode()))
    with socket.create_connection(("127.0.0.1", node.port()), timeout=20) as client:
        client.sendall(f"PROXY TCP4 {address} 127.0.0.1 4711 1883\r\n".encode() + bytes([0x10, len(body)]) + body)
        return client.recv(64)[3]


def probe(node, path):
    with urllib.request.urlopen(f"{node.http_url}{path}", timeout=20) as answer:
        return " ".join(json.load(answer)["warnings"])


def metric(node, name):
    return int(re.search(rf"^{name} (\d+)$", get(node, "/metrics")[2], re.MULTILINE)[1])


def test_a_device_with_an_old_password_locks_out_itself_alone(start_node, tmp_path):
    node = guarded(start_node, tmp_path, "old", "known", "new")
    assert come(node, "known", "known") == LET_IN
    assert [come(node, "old", "former") for _ in range(3)] == [WRONG] * 3
    assert come(node, "old", "old") == LOCKED_OUT
    assert come(node, "new", "new") == LET_IN, "it was never there before"

    expect_of(lambda: call(node, "GET", "/api/v1/why?name=old"), "locked-out", f"from this address, {NAT}")
    assert (metric(node, "martlet_locked_out"), metric(node, "martlet_lockouts_total")) == (2, 2)


def test_who_was_right_from_an_address_that_is_locked_out_comes_in_all_the_same(start_node, tmp_path):
    node = guarded(start_node, tmp_path, "known", "new")
    assert come(node, "known", "known") == LET_IN
    # Names that nobody has are told the same as others, before and after.
    assert [come(node, name, "x") for name in ("nobody", "new", "somebody")] == [WRONG] * 3
    assert [come(node, name, name) for name in ("nobody", "new")] == [LOCKED_OUT] * 2
    assert come(node, "known", "known") == LET_IN
    # Why another is kept out: where from, and by whose failures.
    expect_of(lambda: call(node, "GET", "/api/v1/why?name=new"), "locked-out",
              f"from this address, {NAT}, the last for the name somebody")
    assert come(node, "new", "new", "192.0.2.2") == LET_IN
    # It guesses at a name that is at home: that name from there is looked for no more.
    assert [come(node, "known", f"guess {number}") for number in range(3)] == [WRONG] * 3
    assert come(node, "known", "known") == LOCKED_OUT


def test_health_tells_operators_who_is_locked_out_and_strangers_how_many(start_node, tmp_path):
    node = guarded(start_node, tmp_path, "known")
    assert probe(node, "/health/ready") == "" and metric(node, "martlet_locked_out") == 0
    for name in ("a", "b", "c"):
        come(node, name, "x")
    told = call(node, "GET", "/api/v1/health", key=KEY)
    assert told["status"] == "ready" and NAT in " ".join(told["warnings"]), told
    shown = martlet_process.run("status", "--data-dir", node.data_dir).stdout
    assert f"locked out for too many wrong credentials ({NAT})" in shown
    open_to_all = probe(node, "/readyz")
    assert "1 address or name is locked out" in open_to_all and NAT not in open_to_all
