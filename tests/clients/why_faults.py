"""What the faults that are put to `martlet why` share: a node, clients that are refused, the headline
of the answer, and bash for the command that it prints."""

import json
import pathlib
import re
import subprocess
import tempfile

import paho.mqtt.client as mqtt
import pytest

import martlet_process
from paho_client import Client, properties
from test_access import DEADLINE_SECS, publish, until
from test_registry import Place

WRONG = 3

# A session that outlives its connection.
KEPT = {"clean": False, "properties": properties("CONNECT", SessionExpiryInterval=600)}

TELEMETRY = """
[telemetry]
enabled = true
[[telemetry.rules]]
topic = "d/{device}/telemetry"
key = "{key}"
"""


class Commands:
    """Each command that a headline has printed in a test was run in it, as it is printed: an advice that nobody follows may
    be wrong. conftest.py calls this."""

    told, ran = [], set()

    @classmethod
    def begin(cls):
        cls.told, cls.ran = [], set()

    @classmethod
    def check(cls):
        left = [command for command in cls.told if command not in cls.ran]
        assert not left, "commands of headlines that were not run by node.bash(answer):\n" + "\n".join(left)


class Faults:
    """A node with tables of its own."""

    def __init__(self, settings=(), listen=("mqtt://127.0.0.1:0",), arguments=(), variables=(), path=None):
        self._directory = tempfile.TemporaryDirectory(prefix="martlet-why-")
        self.path = pathlib.Path(self._directory.name)
        self.place = Place(path or self.path / "data")
        self.options = dict(settings=settings, listen=listen, arguments=arguments, variables=variables)
        self.node = None
        # Causes whose form for people was looked at.
        self.printed = set()
        self.run = self.place.run
        self.device = self.place.device
        self.user = self.place.user

    def start(self):
        self.node = martlet_process.Node(data_dir=self.place.path, **self.options)
        return self

    def __enter__(self):
        return self if self.node else self.start()

    def __exit__(self, *_):
        self.node.kill()
        self._directory.cleanup()

    def restart(self, *settings):
        """The same node with other settings."""
        self.node.close()
        self.options["settings"] = settings
        self.start()

    def client(self, name, password="secret", client_id=None, **options):
        """A client, which connects in a `with` statement."""
        return Client(self.node, client_id or name, **options).credentials(name, password)

    def comes(self, name, password="secret", client_id=None, *options):
        """Whether a client is let in."""
        topic = f"d/{client_id or name}/test"
        return publish(self.node, topic, "-u", name, "-P", password, "-i", client_id or name, *options)[0] == 0

    def why(self, name, topic=None, team=None):
        """The answer."""
        return self.node.why(name, topic, team)

    def headline(self, cause, said, *asked, within=DEADLINE_SECS, **of):
        """Waits until that is the headline; of each cause also in what is printed for people."""
        answers, printed = [], [""]

        def is_it():
            answers.append(self.why(*asked, **of))
            if answers[-1]["cause"] != cause or said not in answers[-1]["sentence"]:
                return False
            if cause in self.printed:
                return True
            # A connection that comes and goes may have changed in between: then both are asked for again.
            printed.append(self.why_printed(*asked, **of))
            # Commands in printed text name the node.
            plain = lambda text: re.sub(r" --data-dir[= ][^\s`),;:]+", "", text)
            return plain(said) in plain(printed[-1]).partition("\n")[0] and all(
                plain(answers[-1].get(key, "")) in plain(printed[-1]) for key in ("command", "remedy"))

        try:
            until(is_it, cause, within)
        except AssertionError:
            answer = json.dumps(answers[-1], indent=1)
            raise AssertionError(f"not {cause} with {said!r}, but {answer}\nprinted: {printed[-1]}") from None
        self.printed.add(cause)
        answer = answers[-1]
        assert answer["wrong"], answer
        self.can_view(answer)
        if "command" in answer:
            Commands.told.append(answer["command"])
        return answer

    def can_view(self, answer):
        """What the remedies show is there."""
        for remedy in answer.get("remedies", ()):
            if remedy["kind"] == "view" and remedy["method"] == "GET":
                status, text = self.node.admin.ask("GET", remedy["path"])
                assert status == 200, (remedy, status, text)

    def why_printed(self, *asked, team=None):
        """What is printed for people."""
        of = ["--team", team] if team else []
        done = martlet_process.run("why", *asked, *of, "--data-dir", str(self.place.path))
        assert done.returncode in (0, WRONG), done
        return done.stdout

    def over(self, *asked, within=DEADLINE_SECS, **of):
        """Waits until nothing is wrong."""
        try:
            until(lambda: not self.why(*asked, **of)["wrong"], "nothing is wrong", within)
        except AssertionError:
            raise AssertionError(json.dumps(self.why(*asked, **of), indent=1)) from None

    def bash(self, answer, given="", code=0):
        """Runs the command of an answer as it is printed; what it prints."""
        path = self.path / "bin"
        if not path.exists():
            path.mkdir()
            (path / "martlet").symlink_to(martlet_process.binary())
        assert "command" in answer, json.dumps(answer, indent=1)
        Commands.ran.add(answer["command"])
        environment = martlet_process.environment()
        done = subprocess.run(["bash", "-c", answer["command"]], input=given, capture_output=True, text=True,
                              timeout=60, env={**environment, "PATH": f"{path}:{environment['PATH']}"})
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def carry_out(self, answer):
        """Sends the request of the answer's remedy, in place of its command; what the node answers."""
        [remedy] = [one for one in answer["remedies"] if one["kind"] == "request"]
        assert (remedy["command"], remedy["sentence"]) == (answer["command"], answer["remedy"]), remedy
        Commands.ran.add(answer["command"])
        headers = {"if-match": "*"} if remedy["method"] == "PATCH" else {}
        body = json.dumps(remedy["body"]) if "body" in remedy else None
        status, text = self.node.admin.ask(remedy["method"], remedy["path"], body, **headers)
        assert status in (200, 201, 202, 204), (remedy, status, text)
        return json.loads(text) if text else None


@pytest.fixture(scope="module")
def node():
    """A node with three administrators."""
    faults = Faults()
    for name in ("boss", "ann", "bob"):
        faults.user(name, "--role", "administrator")
    with faults.start():
        yield faults


@pytest.fixture
def boss(node):
    """A client of an administrator."""
    with node.client("boss", client_id="console") as client:
        yield client


def printed_secret(text):
    """The credential that a command has printed."""
    return re.search(r"shown this once: (\S+)", text).group(1)


def reason_of(client):
    """The reason code of a CONNACK, of a client that need not be let in."""
    client.client.loop_stop()
    return client.connack


def published(client, topic, qos=1):
    """Whether a message was accepted: the reason code of its PUBACK."""
    return client.acknowledged(topic) if qos else client.client.publish(topic, "x", 0).rc == mqtt.MQTT_ERR_SUCCESS
