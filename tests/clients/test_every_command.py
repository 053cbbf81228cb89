"""Every command of the program, as its own help names them: none aborts where nobody reads what it prints, and all
that print lists do so in one form as JSON. A command that is new fails these tests until it is entered here."""

import json
import os
import re
import shlex
import sqlite3
import subprocess
import threading

import pytest

import martlet_process
from paho_client import Client
from test_access import until
from test_commands import closed_pipe, keys_and_values
from test_http_api import KEYS
from test_import import IOTFLOW, MICROSERVICE, SERVICE_MQTT
from test_registry import Place, martlet
from test_webhooks import Receiver

DEADLINE_SECS = 60
PASSWORD = "a long password"

# The queue of another agent.
QUEUE = """
CREATE TABLE messages (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL,
    qos INTEGER DEFAULT 1, timestamp REAL NOT NULL, created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP);
"""

# Words that begin with @ stand for something of this test, see `words`.
# Of a node that runs: what only prints.
READING = """
config show; config check; status; top --once; clients; client ls; client show c1
client subscriptions c2; session ls; retained ls; retained get r/1; topic ls; topic history r/1
telemetry query d1 --from 2026-01-01T00:00:00Z; telemetry export d1 --from 2026-01-01T00:00:00Z; telemetry rejected; health; logs
log level; trace ls; why c1; user ls; device ls; device show d1; device export; device twin d1; device type ls
device type rules device; firmware ls; firmware show pump 1; firmware get pump 1; rollout ls; rollout show @rollout
rollout devices @rollout; group ls; group show g1; group desired g1; command ls -d d1; command show @command -d d1; key ls
team ls; team show; team member ls t1; team token ls t1; ban ls; alarm ls; rule ls; rule show hot; rule test hot --messages @messages
lockout ls; integration ls; integration show webhook/crm; integration test webhook/crm; integration dead-letter ls webhook/crm
integration dead-letter show webhook/crm 1; secret ls; provision ls; audit; role ls; role rules user
"""
# Without a node, or of one that does not run.
READING_FILES = """
config reference; store check --data-dir @stopped; store stats --data-dir @stopped; backup verify @backup; cert ls --dir @certs
cert show @certs/server.crt; cert check 127.0.0.1:@tls --cafile @certs/ca.crt; acl explain alice publish a/b --acl-file @acl
acl lint @acl; import mosquitto @mosquitto.conf; completions bash; version
"""
# What changes something, in an order in which each can be done.
CHANGING = """
client kick c4; client forget c4; session rm c2; retained rm r/1; log level info; trace c1; trace stop c1; reload
user add ann; user set ann --role administrator; user passwd ann; user rm ann; user restore ann
device add d2; device set d2 --description pump; device rotate d2; device import @devices.csv; device rm d2; device restore d2
device type add pumps --rule 'topic read a/#'; device type allow pumps a/#
device type deny pumps b/#; device type remove pumps a/#; device type rm pumps
firmware add pump 2 @messages; firmware rm pump 2; rollout start pump 1 --type device --plan; rollout resume @rollout
rollout pause @rollout; rollout retry @rollout; rollout abort @rollout; group add g2; group member add g2 d1
group member rm g2 d1; group rm g2; command send blink -d d1 --id k2; command retry k2 -d d1; command cancel k2 -d d1
key add k2 --scope viewer; key rm @key; team add t2; team member set t2 alice --role viewer; team member rm t2 alice
team token add t2 token; team token rm t1 @token; team token restore t1 @token; team rm t2; team restore t2
ban add client-id worse; ban rm client-id worse; alarm ack @alarm; alarm shelve @alarm; alarm unshelve @alarm
alarm clear @alarm
rule add cold @rule; rule off cold; rule on cold; rule rm cold; lockout rm eve; integration pause webhook/crm
integration resume webhook/crm; integration skip webhook/crm; integration drain webhook/crm
integration dead-letter send webhook/crm 1; integration dead-letter rm webhook/crm --all; secret set s2 --file @value; secret rm s2
provision add p2; provision rm @provision; role add r2 --rule 'topic read a/#'
role allow r2 a/#; role deny r2 b/#; role remove r2 a/#; role rm r2
import microservice @seed1; import iotflow @seed3; import service-mqtt @seed4
"""
CHANGING_FILES = """
backup create @copy --data-dir @stopped; backup restore @backup --data-dir @restored; store repair --data-dir @stopped
cert ca --dir @more; cert server localhost --dir @more; cert client c1 --dir @more; cert renew c1 --dir @more
cert revoke c1 --dir @more; cert crl --dir @more; passwd -c -b @passwd ann 0123456789; init @init; man @man
agent import @agent --queue @queue; pub -p @mqtt -t a -m b; rr -p @mqtt -t told -e told -m x -W 5
bench pipes --clients 2 --duration 0.2 -p @mqtt
"""
# What prints until it is ended: it ends by itself where nobody reads.
FOLLOWING = """
events; telemetry tail; sub -p @mqtt -t d/#; rollout watch @rollout; command watch @command -d d1
"""
# Tested elsewhere.
ELSEWHERE = {
    "serve": "test_commands.py: a node goes on where nobody reads its lines",
    "agent": "test_agent.py; it prints nothing on standard output",
    "config env": "below, since it prints what the environment has",
    "stop": "below, since it ends the node",
}

# What lists and is not named `ls`. `logs` and `events` print a line of JSON for each, since they may go on.
LISTS = ["clients", "client subscriptions", "topic history", "rollout devices", "telemetry rejected", "audit", "acl lint"]

# What would need more than this node has; it says so on standard error.
MAY_REFUSE = ["client forget", "rollout retry", "command retry", "integration skip"]


def lines(text):
    return [shlex.split(part) for line in text.strip().splitlines() for part in line.split(";") if part.strip()]


def name_of(command, known):
    """The words of a command line that are the command."""
    for count in range(len(command), 0, -1):
        if " ".join(command[:count]) in known:
            return " ".join(command[:count])
    raise AssertionError(f"there is no command {command}")


def commands_of(words=()):
    """All commands below one, and itself if it does something, by its help."""
    shown = martlet(*words, "--help")
    # Those of the program are below the headings of groups.
    before, end = ("\nCommands:\n", "\n\n") if words else ("\nUsage: ", "\nOptions:\n")
    listed = shown.partition(before)[2].partition(end)[0]
    names = re.findall(r"^  ([a-z][\w-]*)", listed, re.MULTILINE)
    is_group = names and re.search(r"^Usage: .* <COMMAND>$", shown, re.MULTILINE)
    found = [" ".join(words)] if words and not is_group else []
    for name in names:
        if name != "help":
            found += commands_of((*words, name))
    return found


@pytest.fixture(scope="module")
def known():
    found = commands_of()
    assert {"serve", "device ls", "trace", "trace ls", "integration dead-letter ls"} <= set(found) and "device" not in found
    return found


def test_no_command_is_forgotten_here(known):
    entered = lines(READING + READING_FILES + CHANGING + CHANGING_FILES + FOLLOWING)
    names = {name_of(command, known) for command in entered} | set(ELSEWHERE)
    assert set(known) - names == set(), "enter it above, so that it is tested"
    assert set(LISTS) <= set(known)


class Everything:
    """A node that has one of everything, and files."""

    def __init__(self, root, receiver):
        self.root, self.words = root, {}
        self.place = Place(root / "data")
        self.receiver = receiver

    def file(self, name, text):
        (self.root / name).write_text(text)

    def run(self, *command, **options):
        return self.place.run(*command, **options)

    def json(self, *command):
        return json.loads(self.run(*command, "--json"))

    def make_files(self):
        root = self.root
        self.file("acl", "user alice\ntopic readwrite a/#\ntopic read a/1\n")
        self.file("value", "a value\n")
        self.file("mosquitto.conf", "listener 1883 127.0.0.1\n")
        self.file("messages", '{"topic": "plant/p/temperature", "payload": "90"}\n')
        self.file("devices.csv", "id\nd3\n")
        self.file("rule", '{"topics": ["cold"], "actions": [{"publish": {"topic": "never"}}]}')
        martlet("cert", "ca", "--dir", root / "certs")
        martlet("cert", "server", "localhost", "127.0.0.1", "--dir", root / "certs")
        for name, tables in (("seed3", IOTFLOW), ("seed4", SERVICE_MQTT), ("agent", QUEUE)):
            with sqlite3.connect(root / name) as database:
                database.executescript(tables.format(serial="INTEGER", time="DATETIME"))
        with sqlite3.connect(root / "seed1") as database:
            database.executescript(MICROSERVICE.replace("URL", self.receiver.url).replace("DAY", "'2026-01-01'"))
        with martlet_process.Node(data_dir=root / "stopped") as node, Client(node, "once") as client:
            client.publish("a", "b", 1, retain=True)
        martlet("backup", "create", root / "backup", "--data-dir", root / "stopped")

    def fill_tables(self):
        self.place.device("d1", "--type", "tls-guide")
        self.place.user("alice")
        for command in ("group add g1", "group member add g1 d1", "team add t1", "team member set t1 alice --role viewer",
                        "ban add client-id evil", "provision add p1"):
            self.run(*command.split())
        self.words["key"] = self.json("key", "add", "k1", "--scope", "viewer")["id"]
        self.run("team", "token", "add", "t1", "token")
        self.words["token"] = self.json("team", "token", "ls", "t1")["items"][0]["id"]
        self.words["provision"] = self.json("provision", "ls")["items"][0]["id"]

    def configuration(self):
        self.file("martlet.toml", f"""
[auth]
lockout_failures = 1
lockout_secs = 86400
[topic_memory]
filters = "#"
[telemetry]
enabled = true
[[telemetry.rules]]
topic = "d/{{device}}/telemetry"
[integrations]
allow_private = ["127.0.0.0/8"]
[[sinks.webhook]]
name = "crm"
filters = ["hook/#"]
url = "{self.receiver.url}"
[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
alarm = {{ severity = "major", message = "hot", threshold = {{ above = 80, clear = 75 }} }}
[[listeners]]
url = "mqtt://127.0.0.1:0"
[[listeners]]
url = "mqtts://127.0.0.1:0"
certificate = "{self.root}/certs/server.crt"
key = "{self.root}/certs/server.key"
""")
        return {"data_dir": self.place.path, "http": True, "listen": (), "variables": KEYS,
                "arguments": ["-c", str(self.root / "martlet.toml")], "settings": ["mqtt.allow_anonymous=true", "http.rate=0"]}

    def fill(self, node):
        """What only a node that runs has."""
        self.words |= {"mqtt": str(node.port()), "tls": str(node.port("mqtts"))}
        with Client(node, "c1") as client:
            client.publish("r/1", "x", 1, retain=True)
            client.publish("plant/p/temperature", "90", 1)
            client.publish("hook/1", "x", 1)
            client.publish("d/d1/telemetry", '{"t": 1}', 1)
            client.publish("d/d1/telemetry", "nothing", 1)
        martlet("sub", "-p", node.port(), "-i", "c2", "-t", "a/#", "-q", "1", "-c", "-V", "5", "-x", "600", "-E")
        martlet("pub", "-p", node.port(), "-i", "c1", "-t", "c", "-m", "x", "-q", "1", "-c", "-V", "5", "-x", "600")
        martlet("pub", "-p", node.port(), "-u", "eve", "-P", "wrong", "-t", "a", "-m", "b", code=4)
        self.run("firmware", "add", "pump", "1", self.root / "messages", "--type", "tls-guide")
        self.words["rollout"] = self.json("rollout", "start", "pump", "1", "--type", "tls-guide", "--plan")["id"]
        self.words["command"] = "k1"
        self.run("command", "send", "blink", "-d", "d1", "--id", "k1")
        self.run("secret", "set", "s1", given="a value\n")
        self.run("trace", "c9")
        until(lambda: self.json("alarm", "ls")["items"], "an alarm is raised")
        self.words["alarm"] = str(self.json("alarm", "ls")["items"][0]["id"])
        until(lambda: self.json("integration", "dead-letter", "ls", "webhook/crm")["items"], "there is a dead letter")
        until(lambda: "1" in self.run("telemetry", "query", "d1"), "there are values")
        until(lambda: self.json("telemetry", "rejected")["items"], "there is a rejected payload")
        until(lambda: self.json("lockout", "ls")["items"], "somebody is locked out")

    def whole(self, command, has_node=True):
        """A command line with what its words stand for."""
        def word(text):
            found = re.search(r"@([\w.]+)", text)
            return text.replace(found[0], self.words.get(found[1], str(self.root / found[1]))) if found else text

        given = [word(text) for text in command]
        return given + ["--data-dir", str(self.place.path)] if has_node else given


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    receiver = Receiver()
    receiver.answer = lambda message: (400, {}, b"no")
    made = Everything(tmp_path_factory.mktemp("every"), receiver)
    made.make_files()
    made.fill_tables()
    with martlet_process.Node(**made.configuration()) as node, Client(node, "c4"):
        made.fill(node)
        yield made
    receiver.close()


def run_into(stdout, command, **variables):
    return subprocess.run([martlet_process.binary(), *command], input=f"{PASSWORD}\n", stdout=stdout, stderr=subprocess.PIPE,
                          env={**martlet_process.environment(), **variables}, timeout=DEADLINE_SECS, text=True)


def into_nothing(command, **variables):
    writer = closed_pipe()
    try:
        return run_into(writer, command, **variables)
    finally:
        os.close(writer)


def lists(known):
    """Each list, with what makes it list something."""
    for has_node, text in ((True, READING), (False, READING_FILES)):
        for command in lines(text):
            name = name_of(command, known)
            if name in LISTS or name.split()[-1] == "ls":
                yield command, has_node


def test_every_list_has_one_form_as_json(everything, known):
    found = list(lists(known))
    assert {name for name in known if name.split()[-1] == "ls"} | set(LISTS) == {name_of(one, known) for one, _ in found}
    wrong = []
    for command, has_node in found:
        done = run_into(subprocess.PIPE, [*everything.whole(command, has_node), "--json"])
        try:
            told = json.loads(done.stdout)
        except ValueError:
            told = {}
        if not set(told) <= {"items", "total", "next"} or not told.get("items"):
            wrong.append((command, done.returncode, done.stdout[:300], done.stderr))
            continue
        if not all(isinstance(one, dict) for one in told["items"]):
            wrong.append((command, told))
        for key, value in keys_and_values(told):
            is_time = key.endswith("_at") or key in ("at", "until", "since", "time", "ts")
            # Of one length, so that texts are in the order of their times.
            form = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"
            if key.endswith("_ms") or is_time and value is not None and not re.fullmatch(form, str(value)):
                wrong.append((command, key, value))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_command_that_prints_aborts_where_nobody_reads(everything):
    wrong = []
    for has_node, text in ((True, READING), (False, READING_FILES)):
        for command in lines(text):
            whole = everything.whole(command, has_node)
            read, done = run_into(subprocess.PIPE, whole), into_nothing(whole)
            # 1: acl lint has found something; 3: why and import mosquitto have.
            is_well = read.returncode in (0, 3) or command[:2] == ["acl", "lint"]
            if not is_well or not read.stdout or (done.returncode, done.stderr) != (read.returncode, read.stderr):
                wrong.append((command, read, done))
    assert not wrong, "\n".join(map(str, wrong))


def test_no_help_aborts_where_nobody_reads(known):
    for name in known:
        done = into_nothing([*name.split(), "--help"])
        assert (done.returncode, done.stderr) == (0, ""), (name, done)


def test_no_command_that_follows_goes_on_where_nobody_reads(everything):
    over = threading.Event()

    def publish():
        """Something to follow, as long as the commands run."""
        while not over.is_set():
            for topic in ("d/d1/telemetry", "told"):
                martlet("pub", "-p", everything.words["mqtt"], "-t", topic, "-m", '{"t": 2}', "-q", "1")

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        for command in lines(FOLLOWING):
            done = into_nothing(everything.whole(command, command[0] != "sub"))
            assert 0 <= done.returncode < 100 and "panicked" not in done.stderr, (command, done)
    finally:
        over.set()
        thread.join()


def test_no_command_that_changes_something_aborts_where_nobody_reads(everything, known):
    wrong = []
    for has_node, text in ((True, CHANGING), (False, CHANGING_FILES)):
        for command in lines(text):
            done = into_nothing(everything.whole(command, has_node))
            name = name_of(command, known)
            codes = (0, 1, 3) if name in MAY_REFUSE else (0, 3)
            if done.returncode not in codes or "panicked" in done.stderr:
                wrong.append((command, done.returncode, done.stderr))
    assert not wrong, "\n".join(map(str, wrong))
    done = into_nothing(everything.whole(["stop"]))
    assert done.returncode == 0 and done.stderr == "", done
    done = into_nothing(["config", "env"], MARTLET_LOG__LEVEL="info")
    assert done.returncode == 0 and done.stderr == "", done
