"""The first example of each page about an integration, as a reader pastes it. Ports and directories are others."""

import base64
import hmac
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

import martlet_process
import nats_process
from server_process import free_ports
from test_sinks import until

DOCS = pathlib.Path(__file__).parents[2] / "docs"
PORTS = (1883, 1884, 4222, 8000, 8080)
# The programs of the examples, with the ports of a test, named as `PORT_NUMBER`. Machines of tests are slower than those
# of readers: pauses are longer.
PROGRAMS = {
    "martlet": """command=$1
shift
case "$command $*" in
    serve*--listen*) exec BINARY serve --http 127.0.0.1:PORT_8080 "$@" ;;
    serve*) exec BINARY serve --listen mqtt://127.0.0.1:PORT_1883 --http 127.0.0.1:PORT_8080 "$@" ;;
    pub*|sub*) exec BINARY "$command" -p PORT_1883 "$@" ;;
    agent*) exec BINARY agent --port PORT_1883 "$@" ;;
    *) exec BINARY "$command" "$@" ;;
esac
""",
    "nats-server": """exec NATS -a 127.0.0.1 -p PORT_4222 "$@"\n""",
    "sleep": """exec /bin/sleep $(($1 * 3))\n""",
}


class Reader:
    """Pastes the blocks of a page into a shell, in a directory of its own."""

    def __init__(self, place):
        self.place, self.output = place, place / "output"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS))))
        programs = place / "programs"
        programs.mkdir()
        (place / "tmp").mkdir()
        for name, text in PROGRAMS.items():
            text = text.replace("BINARY", martlet_process.binary()).replace("NATS", nats_process.program(nats_process.DEBIAN))
            (programs / name).write_text("#!/bin/sh\n" + self.moved(text.replace("PORT_", "")))
            (programs / name).chmod(0o755)
        state = {"HOME": str(place), "XDG_STATE_HOME": str(place / "state")}
        self.environment = {**martlet_process.environment(), **state, "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin"}
        self.shell = None

    def moved(self, text):
        for port, other in self.ports.items():
            text = re.sub(rf"(?<!\d){port}(?!\d)", str(other), text)
        return text

    def pasted(self, text):
        return self.moved(text).replace("/tmp/", f"{self.place}/tmp/")

    def paste(self, text):
        """Waits until the shell has come to the end."""
        with open(self.output, "wb") as output:
            self.shell = subprocess.Popen(
                ["bash", "-c", self.pasted(text)], cwd=self.place, env=self.environment, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True)
        self.shell.wait(timeout=120)

    def said(self):
        return self.output.read_text(errors="replace")

    def close(self):
        if self.shell is None:
            return
        try:
            os.killpg(self.shell.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture
def reader(tmp_path):
    made = Reader(tmp_path)
    yield made
    made.close()


def first_example(page):
    """The blocks of configuration before the first block of commands, and these."""
    blocks = re.findall(r"^```(toml|sh)\n(.*?)^```", (DOCS / f"{page}.md").read_text(), re.S | re.M)
    kinds = [kind for kind, _ in blocks]
    first = kinds.index("sh")
    return "".join(text for _, text in blocks[:first]), blocks[first][1]


@pytest.mark.parametrize("page, shows", [
    ("files", [r'"topic":"plant/1/temperature","payload":"21.5"']),
    ("integrations", [r'"topic":"plant/1/temperature","payload":"21.5"']),
    ("webhooks", [r'"topic": ?"plant/1/temperature", ?"payload": ?"21.5"']),
    ("nats", [r"nats/raw", r"(?m)^delivered +1$"]),
    ("bridges", [r"(?m)^plant/1/temperature 21.5$", r"(?m)^cmd/pump on$", r"bridge/site"]),
    ("topics", [r"(?m)^ +1 +[01]\.\d+ .* hall/7/temperature +21\.5$"]),
    ("rules", [r'(?m)^alerts/7 \{"t": 81\}$', r"(?m)^hot +on +configuration +1 +1 +0"]),
    ("alarms", [r"(?m) major +active +hot +pump-7 .*81 is above 80$"]),
])
def test_the_first_example_works_as_pasted(reader, page, shows):
    configuration, commands = first_example(page)
    if configuration:
        (reader.place / "martlet.toml").write_text(reader.pasted(configuration))
    reader.paste(commands)
    said = reader.said()
    for pattern in shows:
        assert re.search(pattern, said), f"no {pattern!r} in\n{said}"
    for wrong in ("command not found", "error:", "Error", "panicked"):
        assert wrong not in said, said


def test_the_first_example_of_the_agent_works_as_pasted(reader):
    configuration, commands = first_example("agent")
    assert configuration == ""
    listen = (f"mqtt://127.0.0.1:{reader.ports[1883]}",)
    with martlet_process.Node(listen=listen):
        reader.paste(commands)
        lines = [f"device/data/tractor-7 {number}" for number in (1, 2, 3)]
        until(lambda: [line for line in reader.said().splitlines() if line.startswith("device/")] == lines, reader.said)


def test_the_client_that_responds_to_requests_of_nats_works_as_pasted(reader):
    _, _, section = (DOCS / "nats.md").read_text().partition("## Requests to clients\n")
    configuration, responder = re.search(r"```toml\n(.*?)^```.*?```python\n(.*?)^```", section, re.S | re.M).groups()
    nats = nats_process.Server()
    (reader.place / "martlet.toml").write_text(reader.pasted(configuration).replace(
        f"nats://127.0.0.1:{reader.ports[4222]}", nats.url))
    (reader.place / "responder.py").write_text(reader.pasted(responder))
    listen = (f"mqtt://127.0.0.1:{reader.ports[1883]}",)
    try:
        with martlet_process.Node(listen=listen, arguments=("-c", str(reader.place / "martlet.toml"))):
            program = subprocess.Popen([sys.executable, reader.place / "responder.py"])
            try:
                asks = nats_process.Client(nats)

                def reply():
                    asks.send(b"PUB martlet.request.pump-7 %s 2\r\non\r\n" % asks.inbox.encode())
                    return asks.message(b"1")[2]

                until(lambda: reply() == b"done: on", "no response")
            finally:
                program.kill()
                program.wait()
    finally:
        nats.close()


def test_the_receiver_of_signed_webhooks_works_as_pasted(reader):
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / "webhooks.md").read_text(), re.S | re.M)
    (reader.place / "receiver.py").write_text(reader.pasted("".join(blocks)))
    key, body = b"a key of 16 bytes", b'{"topic":"a"}'
    program = subprocess.Popen([sys.executable, reader.place / "receiver.py"], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "KEY": key.decode()})
    url = f"http://127.0.0.1:{reader.ports[8000]}/"

    def status(signature):
        headers = {"webhook-id": "1", "webhook-timestamp": str(int(time.time())), "webhook-signature": signature}
        if signature is None:
            signed = f"1.{headers['webhook-timestamp']}.".encode() + body
            headers["webhook-signature"] = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=60) as answer:
                return answer.status
        except urllib.error.HTTPError as answer:
            return answer.code
        except urllib.error.URLError:
            return None

    try:
        until(lambda: status(None) == 204, "it does not answer")
        assert status("v1,x") == 401
    finally:
        program.kill()
        said, _ = program.communicate()
    assert said.splitlines() == [body.decode(), "refused"]


def test_the_first_example_of_named_connections_works_as_pasted(reader):
    text = (DOCS / "seeds.md").read_text()
    _, _, section = text.partition("### Other brokers\n")
    [commands] = re.findall(r"^```sh\n(.*?)^```", section.split("\n### ")[0], re.S | re.M)
    reader.paste(commands)
    said = reader.said()
    assert '"hivemq":{"connected":true,"subscriptions":["sensors/#"]}' in said.replace(" ", ""), said


def test_pages_state_the_same_memory_and_have_it_from_one_file():
    readme, scaling, measured = ((DOCS / path).read_text() for path in ("../README.md", "scaling.md", "benchmarks.md"))
    readme = readme.replace("\n", " ")
    [(connection, span)] = re.findall(r"bench idle --clients 8000`.* \| (\d+) \(([\d–]+), three runs\)", measured)
    assert f"an idle connection takes {connection} bytes of resident memory ({span})" in readme
    assert f"| A connection | {connection} bytes of memory;" in scaling
    [retained] = re.findall(r"\| bytes of RSS per retained message \| – \| (\d+) ", measured)
    [queued] = re.findall(r"\| bytes of RSS per queued message \| – \| (\d+)\.", measured)
    assert f"a retained message {retained}, a queued message {queued}." in readme
    assert f"| A queued message; a retained one | {queued} bytes of memory; {retained} bytes |" in scaling
    [node] = re.findall(r"^bytes +connection +(\d+)$", (DOCS / "../bench/node.txt").read_text(), re.M)
    assert re.search(rf"^\| `bench/node`, anonymous memory .* \| {node} \|$", measured, re.M)


def test_a_process_is_looked_for_in_a_way_that_finds_one():
    """Without -o or -n two programs of a name, such as a node and a command, are two numbers."""
    pages = [DOCS.parent / "README.md", *DOCS.glob("*.md")]
    found = [(page.name, use) for page in pages for use in re.findall(r"pgrep -?\S*", page.read_text())]
    assert found and all(re.search("-[a-z]*[on]", use) for _, use in found), found
