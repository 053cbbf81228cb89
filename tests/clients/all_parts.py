"""A node with all its parts at once, those who use it, and what each of them was promised.

Rules, alarms, telemetry, twins, commands, a webhook, a file, a sink and a source of NATS and a bridge in both
directions see what two devices publish; somebody changes things by HTTP meanwhile. Each notes what was acknowledged to
it, over all ends of the node. `missing` names what was acknowledged and is not where it was to be.
"""

import collections
import contextlib
import http.client
import json
import threading
import time

import nats_process
from mosquitto_process import Mosquitto
from paho_client import V5, Client, properties
from server_process import free_port
from test_http_api import KEY, KEYS
from test_rules import call
from test_sinks import until
from test_webhooks import Receiver

LASTS = properties("CONNECT", SessionExpiryInterval=36_000)
FIRST_TIME = 1_790_000_000
ALARMS = "iotflow/system/alarms"
# What may be under way of a publisher.
AT_ONCE = 5
# Of a turn: messages of each publisher, alarms, changes by HTTP, messages from NATS and from the other broker.
MESSAGES, ALARMS_OF_TURN, CHANGES, FED = 40, 3, 3, 10

CONFIGURATION = """
[integrations]
allow_private = ["127.0.0.0/8"]

[telemetry]
enabled = true

[[telemetry.rules]]
topic = "d/{{device}}/telemetry"

[[rules]]
name = "copy"
topics = ["d/+/telemetry"]
actions = [{{ publish = {{ topic = "copy/{{{{ levels[1] }}}}", payload = "{{{{ payload.n }}}}", qos = 1 }} }}]

[[rules]]
name = "hot"
topics = ["plant/+/temperature"]
device = "{{{{ levels[1] }}}}"
alarm = {{ severity = "major", threshold = {{ above = 80, clear = 75 }} }}

[[rules]]
name = "warm"
telemetry = "h"
actions = [{{ publish = {{ topic = "warm/{{{{ device.id }}}}", payload = "{{{{ value }}}}", qos = 1 }} }}]

[[sinks.webhook]]
name = "all"
filters = ["d/+/telemetry"]
url = "{webhook}"
in_flight = 4

[[sinks.file]]
name = "all"
filters = ["d/+/telemetry"]
path = "{file}"

[[sinks.nats]]
name = "all"
filters = ["d/+/telemetry"]
url = "{nats}"
subject = "raw.{{client}}"

[[sources.nats]]
name = "orders"
stream = "CMD"
url = "{nats}"

[[bridges]]
name = "up"
url = "mqtt://127.0.0.1:{mosquitto}"
client_id = "bridge-up"
reconnect_max_secs = 1
topics = ["d/+/telemetry out 1", "in/# in 1"]
"""


class Worker(threading.Thread):
    """Does `count` things, each of them once, over all ends of the node; `more` adds to them."""

    def __init__(self, plant):
        super().__init__(daemon=True)
        self.plant, self.next, self.count, self.done = plant, 0, 0, set()
        self.is_over = threading.Event()

    def has_ended(self):
        return self.next >= self.count

    def run(self):
        while not self.is_over.is_set():
            try:
                self.work()
            except (AssertionError, OSError, RuntimeError, http.client.HTTPException):
                # The node is being killed or started; Paho's word for that is RuntimeError.
                time.sleep(0.01)

    def wait(self):
        """Waits for what there is to be done, or for the end."""
        while self.has_ended() and not self.is_over.is_set():
            time.sleep(0.005)
        return not self.is_over.is_set()


class Publisher(Worker):
    """A device that publishes numbers as telemetry, and the last of them as a retained message."""

    def __init__(self, plant, name, qos):
        super().__init__(plant)
        self.device, self.qos, self.retained = name, qos, -1

    def work(self):
        with self.plant.client(self.device) as client:
            while client.end_reason is None and self.wait():
                numbers = range(self.next, min(self.next + AT_ONCE, self.count))
                self.next = numbers.stop
                texts = {number: json.dumps({"ts": FIRST_TIME + number, "n": number}) for number in numbers}
                topic = f"d/{self.device}/telemetry"
                sent = {number: client.client.publish(topic, texts[number], self.qos) for number in numbers}
                last = client.client.publish(f"state/{self.device}", str(numbers[-1]), 1, retain=True)
                taken = lambda one: one.rc == 0 and one.is_published()
                all_sent = [*sent.values(), last]
                until(lambda: all(map(taken, all_sent)) or client.end_reason is not None, self.device)
                self.done |= {number for number, one in sent.items() if taken(one)}
                if taken(last):
                    self.retained = numbers[-1]


class Heater(Worker):
    """Raises an alarm and clears it, each of another name."""

    def work(self):
        with self.plant.client("heater") as client:
            while client.end_reason is None and self.wait():
                name, self.next = f"oven-{self.next}", self.next + 1
                for value, change in (("90", "raised"), ("20", "cleared")):
                    client.publish(f"plant/{name}/temperature", value, qos=1)
                    self.done.add((name, change))


class Operator(Worker):
    """Changes desired values, sends commands, adds devices and stores values, by HTTP."""

    def __init__(self, plant):
        super().__init__(plant)
        self.desired = -1

    def work(self):
        while self.wait():
            with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.plant.http_port, timeout=60)) as wire:
                wire.connect()
                number, self.next = self.next, self.next + 1
                twin = self.ask(wire, "PATCH", "/devices/unit/twin/desired", {"n": number})
                self.desired = number
                self.done.add(("version", twin["desired"]["version"]))
                self.ask(wire, "POST", "/devices/unit/commands", {"command": "blink", "id": f"c-{number}"})
                self.done.add(("command", f"c-{number}"))
                self.ask(wire, "POST", "/devices", {"id": f"new-{number}"})
                self.done.add(("device", f"new-{number}"))
                self.ask(wire, "POST", "/devices/unit/telemetry", {"ts": FIRST_TIME + number, "h": number})
                self.done.add(("value", number))

    @staticmethod
    def ask(wire, method, path, body):
        wire.request(method, f"/api/v1{path}", json.dumps(body), {"X-API-Key": KEY, "Content-Type": "application/json"})
        answer = wire.getresponse()
        text = answer.read()
        # A part may not be ready yet after a start.
        assert answer.status < 300, (answer.status, text)
        return json.loads(text)


class Listener(Worker):
    """A session that outlives its connections, and notes what comes."""

    def __init__(self, plant, name, *filters):
        super().__init__(plant)
        self.device, self.filters, self.found = name, filters, collections.defaultdict(list)

    def work(self):
        client = self.plant.client(self.device, clean=False, properties=LASTS)
        client.client.on_message = lambda _client, _data, message: self.take(client, message)
        client.start()
        try:
            for one in self.filters:
                assert client.subscribe(one, qos=1) == [1], one
            self.filters = ()
            while client.end_reason is None and not self.is_over.is_set():
                time.sleep(0.01)
        finally:
            client.disconnect()

    def take(self, _, message):
        self.found[message.topic].append(message.payload)


class Unit(Listener):
    """A device that does what it is told, and says so."""

    def take(self, client, message):
        super().take(client, message)
        if "/commands/" in message.topic:
            answer = {"command_id": json.loads(message.payload)["id"], "status": "succeeded"}
            client.client.publish("d/unit/status/command", json.dumps(answer), 1)


class Plant:
    """The node's configuration, the other systems, and all that use the node."""

    def __init__(self, place, file):
        self.receiver, self.nats, self.mosquitto = Receiver(), nats_process.Server(), Mosquitto()
        with self.asks() as asks:
            asks.add_stream("RAW", "raw.>")
            asks.add_stream("CMD", "cmd.>")
        self.port, self.http_port, self.file = free_port(), free_port(), file
        config = place / "martlet.toml"
        config.write_text(CONFIGURATION.format(
            webhook=self.receiver.url, file=file, nats=self.nats.url, mosquitto=self.mosquitto.port))
        settings = ["http.rate=0", "limits.connect_rate_per_address=0", "events.publish=twin_changed"]
        arguments = ("-c", str(config), "--http", f"127.0.0.1:{self.http_port}")
        self.options = {"listen": (f"mqtt://127.0.0.1:{self.port}",), "http": None, "variables": KEYS,
                        "settings": settings, "arguments": arguments}
        self.devices, self.fed = {}, 0
        self.publishers = [Publisher(self, "pump", 1), Publisher(self, "valve", 2)]
        self.heater, self.operator = Heater(self), Operator(self)
        self.keeper = Listener(
            self, "keeper", "d/+/telemetry", "copy/#", "warm/#", "cmd/#", "in/#", ALARMS, "$events/twin_changed")
        self.unit = Unit(self, "unit", "d/unit/commands/#", "d/unit/config")
        self.there, self.feeder = Client(None, "there", port=self.mosquitto.port), None
        self.out = collections.defaultdict(list)

    def asks(self):
        """A connection to NATS, which would end one that is silent for long."""
        return contextlib.closing(nats_process.Client(self.nats))

    def workers(self):
        return [*self.publishers, self.heater, self.operator, self.keeper, self.unit]

    def client(self, name, **how):
        made = self.devices[name]
        return Client(None, name, V5, port=self.port, **how).credentials(made["user_name"], made["secret"])

    def begin(self, node):
        """Adds the devices, and begins all work."""
        rules = ["topic readwrite #", "topic read $events/#"]
        call(node, "POST", "/device-types", {"name": "free", "rules": rules}, status=201)
        for name in ("pump", "valve", "heater", "keeper", "unit"):
            self.devices[name] = call(node, "POST", "/devices", {"id": name, "type": "free"}, status=201)
        self.there.client.on_message = lambda _client, _data, message: self.out[message.topic].append(message.payload)
        self.there.start()
        self.there.subscribe("d/#", qos=1)
        self.feeder = Client(None, "feeder", port=self.mosquitto.port).start()
        for worker in (self.keeper, self.unit):
            worker.start()
        until(lambda: not self.keeper.filters and not self.unit.filters, node.log)
        until(lambda: "the bridge is connected" in node.log(), node.log)
        for worker in self.workers()[:4]:
            worker.start()

    def turn(self, node, share):
        """More to do for everybody, of which this part is tried at its end."""
        workers = self.workers()[:4]
        before = sum(worker.count for worker in workers)
        for publisher in self.publishers:
            publisher.count += MESSAGES
        self.heater.count += ALARMS_OF_TURN
        self.operator.count += CHANGES
        with self.asks() as asks:
            for number in range(self.fed, self.fed + FED):
                asks.send(b"PUB cmd.x %d\r\n%d\r\n" % (len(str(number)), number))
                self.feeder.publish("in/x", str(number), qos=1)
            self.fed += FED
            assert asks.count("CMD") == self.fed
        self.until_tried(before + share * (sum(worker.count for worker in workers) - before), node)

    def until_tried(self, wanted, node):
        tried = lambda: sum(worker.next for worker in self.workers()[:4])
        until(lambda: tried() >= wanted, lambda: f"{tried()} of {wanted}\n{node.log()}")

    def numbers(self, device):
        """The numbers of a device in all places, by the places' names."""
        topic = f"d/{device}/telemetry"
        read = lambda payloads: [json.loads(payload)["n"] for payload in payloads]
        with self.receiver.lock:
            posted = [message["payload"] for message, _, _ in self.receiver.received if message["topic"] == topic]
        lines = [json.loads(line) for line in self.file.read_text().splitlines(True) if line.endswith("\n")]
        with self.asks() as asks:
            streamed = [payload for subject, _, payload in asks.all("RAW") if subject == f"raw.{device}"]
        return {
            "session": read(list(self.keeper.found[topic])),
            "webhook": read(posted),
            "file": read(one["payload"] for one in lines if one["topic"] == topic),
            "nats": read(streamed),
            "bridge": read(list(self.out[topic])),
        }

    def values(self, node, device, key, count):
        """The values of a key that are stored."""
        found = set()
        for first in range(0, count, 5_000):
            query = f"from={FIRST_TIME + first}&to={FIRST_TIME + first + 5_000}&keys={key}&limit=10000"
            found |= {one["value"] for one in call(node, "GET", f"/devices/{device}/telemetry?{query}")["items"]}
        return found

    def missing(self, node):
        """What was acknowledged and is not found, by its place."""
        found = {}
        for publisher in self.publishers:
            device = publisher.device
            places = {place: set(numbers) for place, numbers in self.numbers(device).items()}
            places["rule"] = set(map(int, self.keeper.found[f"copy/{device}"]))
            places["telemetry"] = self.values(node, device, "n", publisher.count)
            found |= {(place, device): publisher.done - numbers for place, numbers in places.items()}
        fed = set(range(self.fed))
        found["source"] = fed - set(map(int, self.keeper.found["cmd/x"]))
        found["bridge in"] = fed - set(map(int, self.keeper.found["in/x"]))
        alarms = map(json.loads, list(self.keeper.found[ALARMS]))
        found["alarms"] = self.heater.done - {(one["device"], one["change"]) for one in alarms}
        return {place: numbers for place, numbers in {**found, **self.missing_changes(node)}.items() if numbers}

    def missing_changes(self, node):
        """What was changed by HTTP and is not found."""
        kinds = collections.defaultdict(set)
        for kind, what in self.operator.done:
            kinds[kind].add(what)
        told = {json.loads(payload)["twin"]["version"] for payload in list(self.keeper.found["$events/twin_changed"])}
        commanded = {json.loads(one)["id"] for one in list(self.unit.found["d/unit/commands/control"])}
        listed, added = {}, set()
        for path, take in (("/devices/unit/commands", lambda one: listed.update({one["id"]: one["state"]})),
                           ("/devices", lambda one: added.add(one["id"]))):
            cursor = ""
            while cursor is not None:
                page = call(node, "GET", f"{path}?limit=100{cursor}")
                for one in page["items"]:
                    take(one)
                cursor = f"&cursor={page['next']}" if page.get("next") else None
        return {
            "twin events": kinds["version"] - told,
            "commands": kinds["command"] - commanded,
            "command states": {one for one in kinds["command"] if listed.get(one) != "succeeded"},
            "devices": kinds["device"] - added,
            "rule about values": kinds["value"] - set(map(int, self.keeper.found["warm/unit"])),
            "values by HTTP": kinds["value"] - self.values(node, "unit", "h", self.operator.count),
        }

    def check(self, node):
        """All is done, and all that was acknowledged is found everywhere, in its order."""
        self.until_tried(sum(worker.count for worker in self.workers()[:4]), node)
        told = lambda: f"{self.missing(node)}\n{node.log()}"
        deadline = time.monotonic() + 120
        while missing := self.missing(node):
            assert time.monotonic() < deadline, told()
            # What is looked at costs more than a look.
            time.sleep(0.5)
        assert not missing
        for publisher in self.publishers:
            for place, numbers in self.numbers(publisher.device).items():
                first = list(dict.fromkeys(numbers))
                assert first == sorted(first), (place, publisher.device)
        twin = call(node, "GET", "/devices/unit/twin")
        assert twin["desired"]["values"]["n"] >= self.operator.desired, twin
        retained = call(node, "GET", "/retained?filter=state/%23&payload=true")["items"]
        kept = {one["topic"].split("/")[1]: one for one in retained}
        for publisher in self.publishers:
            assert int(kept[publisher.device]["payload"]) >= publisher.retained, (kept, publisher.retained)
        for one in call(node, "GET", "/integrations")["items"]:
            assert one["dead_letters"] == 0, one
        for worker in self.workers()[:4]:
            # An end of the node costs each of them a few.
            assert len(worker.done) >= worker.count / 2, (worker, worker.count, worker.done)

    def close(self):
        for worker in self.workers():
            worker.is_over.set()
        for worker in self.workers():
            if worker.is_alive():
                worker.join(60)
        for client in (self.there, self.feeder):
            if client and client.connack is not None:
                client.disconnect()
        self.receiver.close()
        self.nats.close()
        self.mosquitto.close()
