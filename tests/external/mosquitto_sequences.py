#!/usr/bin/env python3
"""Plays Mosquitto's packet sequences (test/broker/data/*.json) against Martlet and compares.

MOSQUITTO_SRC names a checkout of https://github.com/eclipse-mosquitto/mosquitto; nothing of it is
kept here. Exit status 0: every difference is one that mosquitto_differences.txt explains, and
every line there is still needed; 1: not so; 2: it could not run. Arguments select cases by a part
of their name and print their packets.

Compared is what MQTT fixes. Left to a server, and therefore not compared, are: the properties of
its answers, the order of properties, the order in which packets of different types leave, whether
a QoS 2 message is passed on before or after its PUBREL, and whether a PUBACK or PUBREC says that
there were no matching subscribers (0x10) or plainly Success.
"""

import json
import os
import pathlib
import re
import socket
import struct
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import martlet_process  # noqa: E402

# As the sequences expect of a Mosquitto with its default settings.
SETTINGS = [
    "limits.receive_maximum=20",
    "limits.topic_alias_maximum=10",
    "limits.packet_bytes=2000000",
    "limits.in_flight=20",
    "log.level=warn",
]
TIMEOUT_SECS = 1.0

CONNACK, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP = 2, 3, 4, 5, 6, 7
SUBACK, UNSUBACK, DISCONNECT, AUTH = 9, 11, 14, 15

PROPERTY_SIZES = {
    0x01: 1, 0x02: 4, 0x03: "data", 0x08: "data", 0x09: "data", 0x0B: "varint", 0x11: 4,
    0x12: "data", 0x13: 2, 0x15: "data", 0x16: "data", 0x17: 1, 0x18: 4, 0x19: 1, 0x1A: "data",
    0x1C: "data", 0x1F: "data", 0x21: 2, 0x22: 2, 0x23: 2, 0x24: 1, 0x25: 1, 0x26: "pair",
    0x27: 4, 0x28: 1, 0x29: 1, 0x2A: 1,
}  # fmt: skip
TOPIC_ALIAS = 0x23
NO_MATCHING_SUBSCRIBERS = 0x10

NAMES = {
    CONNACK: "CONNACK", PUBLISH: "PUBLISH", PUBACK: "PUBACK", PUBREC: "PUBREC", PUBREL: "PUBREL",
    PUBCOMP: "PUBCOMP", SUBACK: "SUBACK", UNSUBACK: "UNSUBACK", 13: "PINGRESP",
    DISCONNECT: "DISCONNECT", AUTH: "AUTH",
}  # fmt: skip


class Mismatch(Exception):
    """What came is not what should have come: `kind` in short, and the packets."""

    def __init__(self, kind, packets=""):
        super().__init__(f"{kind} {packets}".strip())
        self.kind = kind


def varint(value):
    """A Variable Byte Integer; values beyond four bytes too, since the sequences contain them."""
    encoded = bytearray()
    while True:
        value, low = divmod(value, 128)
        encoded.append(low | (0x80 if value else 0))
        if not value:
            return bytes(encoded)


def packet_bytes(notation):
    """The bytes of a packet in the sequences' notation.

    Words are separated by blanks: iN, HN (also kN, mN, sN), LN: decimal of 8, 16, 32 bits; vN and
    rN: Variable Byte Integer; 'text'; all else is hexadecimal.
    """
    encoded = bytearray()
    at = 0
    while at < len(notation):
        if notation[at] == " ":
            at += 1
            continue
        if notation[at] == "'":
            end = notation.index("'", at + 1)
            encoded += notation[at + 1 : end].encode()
            at = end + 1
            continue
        end = notation.find(" ", at)
        end = len(notation) if end < 0 else end
        word = notation[at:end]
        at = end
        kind, number = word[0], word[1:]
        if kind == "i":
            encoded.append(int(number))
        elif kind in "Hkms":
            encoded += struct.pack("!H", int(number))
        elif kind == "L":
            encoded += struct.pack("!L", int(number))
        elif kind in "vr":
            encoded += varint(int(number))
        else:
            encoded += bytes.fromhex(word)
    return bytes(encoded)


class Reader:
    """Takes fields off the front of bytes."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise Mismatch("a packet that ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, size):
        return int.from_bytes(self.take(size), "big")

    def varint(self):
        value = 0
        for place in range(4):
            byte = self.number(1)
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise Mismatch("a Variable Byte Integer of more than four bytes")

    def field(self):
        return self.take(self.number(2))

    def rest(self):
        return self.take(len(self.data) - self.at)

    def left(self):
        return len(self.data) - self.at

    def properties(self):
        inner = Reader(self.take(self.varint()))
        found = []
        while inner.left():
            name = inner.varint()
            size = PROPERTY_SIZES.get(name)
            if size is None:
                raise Mismatch(f"unknown property {name:#x}")
            if size == "data":
                value = inner.field()
            elif size == "pair":
                value = (inner.field(), inner.field())
            elif size == "varint":
                value = inner.varint()
            else:
                value = inner.number(size)
            found.append((name, value))
        return sorted(found, key=repr)


def meaning(packet, v5):
    """A packet as what MQTT fixes of it."""
    kind, flags = packet[0] >> 4, packet[0] & 15
    reader = Reader(packet[1:])
    reader.varint()
    if kind == CONNACK:
        return kind, flags, reader.number(1), reader.number(1)
    if kind == PUBLISH:
        topic = reader.field()
        packet_id = reader.number(2) if flags & 6 else None
        properties = reader.properties() if v5 else []
        properties = [found for found in properties if found[0] != TOPIC_ALIAS]
        return kind, flags, topic, packet_id, properties, reader.rest()
    if kind in (PUBACK, PUBREC, PUBREL, PUBCOMP):
        packet_id = reader.number(2)
        reason = reader.number(1) if reader.left() else 0
        return kind, flags, packet_id, 0 if reason == NO_MATCHING_SUBSCRIBERS else reason
    if kind in (SUBACK, UNSUBACK):
        packet_id = reader.number(2)
        if v5:
            reader.properties()
        return kind, flags, packet_id, reader.rest()
    if kind in (DISCONNECT, AUTH):
        return kind, flags, reader.number(1) if reader.left() else 0
    return kind, flags, reader.rest()


def in_short(packet, v5):
    """Name and reason of a packet, or that there is none."""
    if packet is None:
        return "closed"
    found = meaning(packet, v5)
    name = NAMES.get(found[0], f"packet type {found[0]}")
    if found[0] in (SUBACK, UNSUBACK):
        return f"{name} {found[-1].hex()}".strip()
    if found[0] == PUBLISH or not isinstance(found[-1], int):
        return name
    return f"{name} {found[-1]:02x}"


def complete_packet(data):
    """Length of the packet that `data` begins with, or None."""
    length = 0
    for place in range(4):
        if len(data) < place + 2:
            return None
        length |= (data[place + 1] & 0x7F) << 7 * place
        if data[place + 1] < 0x80:
            total = place + 2 + length
            return total if len(data) >= total else None
    raise Mismatch(f"bytes that are not a packet: {data[:8].hex()}")


class Client:
    """A connection that speaks packets as bytes."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""
        self.early = []

    def send(self, packet):
        try:
            self.socket.sendall(packet)
        except (BrokenPipeError, ConnectionResetError):
            pass  # What it was told before is still to be read.

    def receive(self):
        """The next packet; None if the connection has been closed."""
        while True:
            length = complete_packet(self.data)
            if length is not None:
                packet, self.data = self.data[:length], self.data[length:]
                return packet
            try:
                more = self.socket.recv(65536)
            except ConnectionResetError:
                more = b""
            except TimeoutError:
                raise Mismatch("nothing came") from None
            if not more:
                return None
            self.data += more

    def expect(self, wanted, v5):
        """Packets of one type keep their order; a PUBLISH may come before it is wanted."""
        wanted = list(wanted)
        for early in list(self.early):
            if any(meaning(packet, v5) == meaning(early, v5) for packet in wanted):
                wanted.remove(
                    next(packet for packet in wanted if meaning(packet, v5) == meaning(early, v5))
                )
                self.early.remove(early)
        while wanted:
            packet = self.receive()
            if packet is None:
                self.mismatch(None, wanted[0], v5)
            got = meaning(packet, v5)
            first = next((w for w in wanted if meaning(w, v5)[0] == got[0]), None)
            if first is None and got[0] == PUBLISH:
                self.early.append(packet)
                continue
            if first is None or meaning(first, v5) != got:
                self.mismatch(packet, first or wanted[0], v5)
            wanted.remove(first)

    def expect_closed(self, v5):
        packet = self.receive()
        if packet is not None:
            self.mismatch(packet, None, v5)

    def expect_no_more(self, v5):
        """Everything that came has been wanted."""
        if self.early:
            self.mismatch(self.early[0], None, v5)

    def mismatch(self, got, wanted, v5):
        if got is not None and wanted is not None and in_short(got, v5) == in_short(wanted, v5):
            kind = f"another {in_short(got, v5)}"
        else:
            kind = f"{in_short(got, v5)} for {in_short(wanted, v5)}"
        hexadecimal = [packet.hex() if packet else "none" for packet in (got, wanted)]
        raise Mismatch(kind, f"({hexadecimal[0]} for {hexadecimal[1]})")

    def close(self):
        self.socket.close()


def connect_packet(client_id, version):
    client_id = client_id.encode()
    name = b"\0\6MQIsdp" if version == 3 else b"\0\4MQTT"
    body = name + bytes([version]) + b"\2" + struct.pack("!H", 60) + (b"\0" if version == 5 else b"")
    body += struct.pack("!H", len(client_id)) + client_id
    return b"\x10" + varint(len(body)) + body


def publish_elsewhere(port, message):
    """Another client publishes and has its acknowledgement."""
    helper = Client(port)
    try:
        helper.send(connect_packet("helper", 4))
        helper.expect([b"\x20\2\0\0"], False)
        qos = message["qos"]
        topic = message["topic"].encode()
        body = struct.pack("!H", len(topic)) + topic + (b"\0\1" if qos else b"")
        body += message["payload"].encode()
        first = 0x30 | qos << 1 | bool(message.get("retain"))
        helper.send(bytes([first]) + varint(len(body)) + body)
        if qos == 1:
            helper.expect([b"\x40\2\0\1"], False)
        elif qos == 2:
            helper.expect([b"\x50\2\0\1"], False)
            helper.send(b"\x62\2\0\1")
            helper.expect([b"\x70\2\0\1"], False)
        helper.send(b"\xe0\0")
        helper.expect_closed(False)
    finally:
        helper.close()


def play(port, case):
    """Plays one sequence; raises Mismatch."""
    v5 = case["version"] == 5
    client = Client(port)
    try:
        if case["connect"]:
            client.send(connect_packet(case["name"], case["version"]))
            client.expect([b"\x20\3\0\0\0" if v5 else b"\x20\2\0\0"], v5)
        wanted = []
        for step in case["steps"]:
            if step["type"] == "recv":
                wanted.append(packet_bytes(step["payload"]))
                continue
            client.expect(wanted, v5)
            wanted = []
            if step["type"] == "send":
                client.send(packet_bytes(step["payload"]))
            elif step["type"] == "external_publish":
                publish_elsewhere(port, step)
            else:
                raise Mismatch(f"a step of unknown type {step['type']}")
        client.expect(wanted, v5)
        if case["closes"]:
            client.expect_closed(v5)
        else:
            client.send(b"\xc0\0")
            client.expect([b"\xd0\0"], v5)
        client.expect_no_more(v5)
    finally:
        client.close()


def cases(source):
    """All cases in order; each has a name of its own."""
    seen = {}
    for path in sorted((source / "test/broker/data").glob("*.json")):
        for group in json.loads(path.read_text(encoding="utf-8")):
            if group.get("disable"):
                continue
            for test in group["tests"]:
                name = f"{path.stem}: {' '.join(group['group'].split())}: {test['name'].strip()}"
                seen[name] = seen.get(name, 0) + 1
                if seen[name] > 1:
                    name += f" #{seen[name]}"
                yield {
                    "name": name,
                    "version": test.get("ver", group.get("ver", 4)),
                    "connect": test.get("connect", group.get("connect", True)),
                    "closes": test.get("expect_disconnect", group.get("expect_disconnect", True)),
                    "steps": test["msgs"],
                }


class Explanation:
    """A line `cases | difference | why` of the list; * in `cases` stands for any text."""

    def __init__(self, line):
        self.cases, self.kind, self.why = (part.strip() for part in line.split(" | "))
        parts = (re.escape(part) for part in self.cases.split("*"))
        self.pattern = re.compile(".*".join(parts))
        self.needed = False

    def explains(self, case, mismatch):
        return self.kind == mismatch.kind and self.pattern.fullmatch(case["name"]) is not None


def explanations():
    path = HERE / "mosquitto_differences.txt"
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            found.append(Explanation(line))
        except ValueError:
            sys.exit(f"{path}:{number}: expected `cases | difference | why`")
    return found


def play_all(source, selected):
    """Plays the cases; gives how many were as Mosquitto, and the others with their mismatch."""
    same = 0
    different = []
    with martlet_process.Node(settings=SETTINGS) as node:
        for case in cases(source):
            if selected and not any(part in case["name"] for part in selected):
                continue
            try:
                play(node.port(), case)
                same += 1
            except Mismatch as mismatch:
                different.append((case, mismatch))
            if node.process.poll() is not None:
                sys.exit(f"the node ended during {case['name']}:\n{node.log()}")
    return same, different


def compare(source, selected):
    explained = explanations()
    same, different = play_all(source, selected)
    unexplained = 0
    for case, mismatch in different:
        explanation = next((e for e in explained if e.explains(case, mismatch)), None)
        if explanation:
            explanation.needed = True
            continue
        unexplained += 1
        print(f"{case['name']} | {mismatch}")
        if selected:
            for step in case["steps"]:
                print("   ", step["type"], step.get("payload"), step.get("comment", ""))
    stale = [] if selected else [e for e in explained if not e.needed]
    for explanation in stale:
        print(f"explains nothing, take it off the list: {explanation.cases} | {explanation.kind}")
    print(
        f"{same + len(different)} sequences: {same} as Mosquitto, "
        f"{len(different) - unexplained} differences explained, {unexplained} not"
    )
    return 1 if unexplained or stale or not same else 0


def main():
    source = os.environ.get("MOSQUITTO_SRC")
    if not source or not (pathlib.Path(source) / "test/broker/data").is_dir():
        print("MOSQUITTO_SRC must name a checkout of eclipse-mosquitto/mosquitto", file=sys.stderr)
        return 2
    return compare(pathlib.Path(source), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
