"""A name whose address changes between two look-ups: nothing connects to an address that is not permitted.

A preloaded library (rebind.c) answers look-ups and notes each address that the node connects to. It is compiled by
`cc`, which scripts/setup names.
"""

import pathlib
import subprocess

import pytest

import nats_process
import test_bridges
import test_nats
import test_webhooks
from mosquitto_process import Mosquitto
from paho_client import Client
from test_alarm_mails import Mails
from test_cert import cert
from test_http_api import KEYS
from test_sinks import until
from test_tls import Authority

NAME, FIRST, LATER = "rebind.test", "127.0.0.1", "169.254.169.254"
SOURCE = pathlib.Path(__file__).with_name("rebind.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("library") / "rebind.so"
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, SOURCE, "-ldl"], check=True)
    return path


class Webhook:
    """A receiver that ends the connection after each answer."""

    kind = "webhook/crm"

    def __init__(self, _):
        self.receiver = test_webhooks.Receiver()
        self.receiver.answer = lambda message: (204, {"connection": "close"}, b"")

    def configured(self, place):
        return test_webhooks.configured(place, self.receiver.url.replace("127.0.0.1", NAME))

    def received(self):
        return self.receiver.payloads()

    def end_connection(self):
        """It has ended already."""

    def close(self):
        self.receiver.close()


class Nats:
    kind = "nats/raw"

    def __init__(self, _):
        self.server = nats_process.Server()
        nats_process.Client(self.server).add_stream("RAW", "raw.>")

    def configured(self, place):
        return test_nats.configured(place, self.server.url.replace("127.0.0.1", NAME))

    def received(self):
        return [payload.decode() for _, _, payload in nats_process.Client(self.server).all("RAW")]

    def end_connection(self):
        self.server.kill()
        self.server.start()

    def close(self):
        self.server.close()


class NatsTls(Nats):
    """With a certificate for the name. The sink creates the stream."""

    def __init__(self, place):
        self.authority = Authority(place / "ca")
        certificate, key = self.authority.sign("server", names=f"DNS:{NAME}")
        self.server = nats_process.Server(f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}', monitored=True)

    def configured(self, place):
        url = self.server.url.replace("nats://127.0.0.1", f"tls://{NAME}")
        return test_nats.configured(place, url, ca_file=self.authority.certificate)

    def received(self):
        return ["first"] * (self.server.stored() or 0)


class Bridge:
    kind = "bridge/up"

    def __init__(self, _):
        self.server = Mosquitto()

    def configured(self, place):
        keys = {"url": f"mqtt://{NAME}:{self.server.port}", "reconnect_max_secs": 1}
        return test_bridges.configured(place, test_bridges.bridge_text(self.server.port, '["plant/# out 1"]', **keys))

    def received(self):
        return [topic.removeprefix("plant/") for topic, _, _ in test_bridges.received(self.server, "plant/")]

    def end_connection(self):
        self.server.kill()
        self.server.start()

    def close(self):
        self.server.close()


class Email:
    """A server with a certificate for the name, to which the sink makes a connection for each mail."""

    kind = "email/operators"

    def __init__(self, place):
        self.directory = place / "certs"
        cert("ca", "--dir", self.directory)
        cert("server", NAME, "--dir", self.directory)
        self.server = Mails(self.directory, True)

    def configured(self, place):
        config = place / "martlet.toml"
        config.write_text(f"""
[integrations]
allow_private = "127.0.0.0/8"
[[sinks.email]]
name = "operators"
filters = ["plant/#"]
server = "{NAME}"
port = {self.server.server_address[1]}
tls = "tls"
ca_file = "{self.directory}/ca.crt"
user = "martlet"
password = "pass word"
from = "martlet@example.com"
to = ["ops@example.com"]
""")
        return {"arguments": ("-c", str(config)), "data_dir": place / "data", "http": True, "variables": KEYS}

    def received(self):
        return [text.split("\r\n\r\n")[1].strip() for _, text in self.server.mails]

    def end_connection(self):
        """It has ended already."""

    def close(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("target", [Webhook, Nats, NatsTls, Bridge, Email])
def test_an_address_that_a_later_lookup_gives_is_checked_too(start_node, tmp_path, library, target):
    notes = tmp_path / "notes"
    notes.touch()
    other = target(tmp_path)
    try:
        options = other.configured(tmp_path)
        preload = {"LD_PRELOAD": str(library), "REBIND_NAME": NAME, "REBIND_FIRST": FIRST, "REBIND_LATER": LATER,
                   "REBIND_NOTES": str(notes)}
        node = start_node(**{**options, "variables": {**dict(options["variables"]), **preload}})
        with Client(node, "pump-1") as client:
            client.publish("plant/first", "first")
            until(lambda: other.received() == ["first"], lambda: f"{other.received()}\n{node.log()}")
            other.end_connection()
            client.publish("plant/second", "second")
        refused = f"{LATER} is a private or special address"
        told = lambda: [one for one in test_bridges.warnings(node) if other.kind in one]
        until(lambda: any(refused in one and "integrations.allow_private" in one for one in told()),
              lambda: [told(), node.log()])
        seen = notes.read_text().splitlines()
        # The library was asked, and saw the connection that was permitted.
        assert seen[0] == f"lookup {FIRST}" and f"connect {FIRST}" in seen and f"lookup {LATER}" in seen, seen
        assert f"connect {LATER}" not in seen
        assert other.received() == ["first"]
    finally:
        other.close()
