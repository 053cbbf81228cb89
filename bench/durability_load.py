#!/usr/bin/env python3
"""Fills a broker with persistent sessions and queued messages over plain sockets, and drains them.

  durability_load.py sessions --port P --count N     N persistent sessions, one subscription each
  durability_load.py fill --port P --sessions S --messages M [--bytes B]
                                                     M messages in all, queued for S offline sessions
  durability_load.py drain --port P --sessions S --messages M
                                                     reads all of them and counts

Prints one line of JSON. Standard library only.
"""

import argparse
import json
import selectors
import socket
import struct
import time


def remaining_length(length):
    out = bytearray()
    while True:
        byte, length = length & 127, length >> 7
        out.append(byte | (128 if length else 0))
        if not length:
            return bytes(out)


def packet(first, body):
    return bytes([first]) + remaining_length(len(body)) + body


def text(value):
    raw = value.encode()
    return struct.pack(">H", len(raw)) + raw


def connect(client_id, clean=False, keep_alive=0):
    return packet(0x10, text("MQTT") + bytes([4, 2 if clean else 0]) + struct.pack(">H", keep_alive)
                  + text(client_id))


def subscribe(number, topic_filter, qos):
    return packet(0x82, struct.pack(">H", number) + text(topic_filter) + bytes([qos]))


def publish(topic, payload, qos, number):
    identifier = struct.pack(">H", number) if qos else b""
    return packet(0x30 | qos << 1, text(topic) + identifier + payload)


DISCONNECT = b"\xe0\x00"


class Reader:
    """Takes whole packets out of a stream."""

    def __init__(self, sock):
        self.sock, self.data = sock, b""

    def packets(self, block=True):
        while True:
            found = []
            at = 0
            data = self.data
            size = len(data)
            while size - at >= 2:
                length, shift, place = 0, 0, at + 1
                while place < size:
                    byte = data[place]
                    length |= (byte & 127) << shift
                    shift += 7
                    place += 1
                    if byte < 128:
                        break
                else:
                    break
                if size - place < length:
                    break
                found.append((data[at], data[place:place + length]))
                at = place + length
            self.data = data[at:]
            if found or not block:
                return found
            more = self.sock.recv(1 << 18)
            if not more:
                raise SystemExit("the broker closed the connection")
            self.data += more


def opened(port):
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def make_sessions(port, count, topic):
    """Sessions s0, s1, ...; each subscribes to `topic` with its number in it, then goes away."""
    batch = 200
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        sockets = []
        for number in numbers:
            sock = opened(port)
            sock.sendall(connect(f"session-{number}")
                         + subscribe(1, topic.format(number), 1))
            sockets.append(sock)
        for sock in sockets:
            reader, seen = Reader(sock), 0
            while seen < 2:
                seen += len(reader.packets())
            sock.sendall(DISCONNECT)
            sock.shutdown(socket.SHUT_WR)
        for sock in sockets:
            while sock.recv(4096):
                pass
            sock.close()


def fill(port, sessions, messages, size, window=1000):
    sock = opened(port)
    sock.sendall(connect("filler", clean=True))
    reader = Reader(sock)
    reader.packets()
    payload = b"x" * size
    sent = acknowledged = 0
    identifier = 0
    while acknowledged < messages:
        batch = bytearray()
        while sent < messages and sent - acknowledged < window:
            identifier = identifier % 65535 + 1
            batch += publish(f"devices/{sent % sessions}/events", payload, 1, identifier)
            sent += 1
        if batch:
            sock.sendall(batch)
        acknowledged += sum(1 for first, _ in reader.packets() if first == 0x40)
    sock.sendall(DISCONNECT)
    sock.close()


def drain(port, sessions, messages, at_once):
    """Reads until all have come, or nothing has for ten seconds: a disk may stand still."""
    total = 0
    for first in range(0, sessions, at_once):
        selector = selectors.DefaultSelector()
        for number in range(first, min(first + at_once, sessions)):
            sock = opened(port)
            sock.sendall(connect(f"session-{number}"))
            selector.register(sock, selectors.EVENT_READ, Reader(sock))
        idle_since = time.monotonic()
        expected = total + sum(messages // sessions + (number < messages % sessions)
                               for number in range(first, min(first + at_once, sessions)))
        while total < expected and time.monotonic() - idle_since < 10:
            for key, _ in selector.select(0.1):
                reader = key.data
                reader.data += key.fileobj.recv(1 << 18)
                answers = bytearray()
                for kind, body in reader.packets(block=False):
                    if kind & 0xF0 == 0x30:
                        topic_length = body[0] << 8 | body[1]
                        answers += b"\x40\x02" + body[2 + topic_length:4 + topic_length]
                        total += 1
                if answers:
                    idle_since = time.monotonic()
                    key.fileobj.sendall(answers)
        for key in list(selector.get_map().values()):
            key.fileobj.sendall(DISCONNECT)
            key.fileobj.close()
    return total


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["sessions", "fill", "drain"])
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--sessions", type=int, default=1_000)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--bytes", type=int, default=256)
    parser.add_argument("--at-once", type=int, default=10)
    options = parser.parse_args()
    begin = time.monotonic()
    result = {"what": options.what}
    if options.what == "sessions":
        make_sessions(options.port, options.count, "devices/{}/events")
        result["sessions"] = options.count
    elif options.what == "fill":
        make_sessions(options.port, options.sessions, "devices/{}/events")
        fill(options.port, options.sessions, options.messages, options.bytes)
        result["messages"] = options.messages
    else:
        result["messages"] = drain(options.port, options.sessions, options.messages, options.at_once)
    result["seconds"] = round(time.monotonic() - begin, 3)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
