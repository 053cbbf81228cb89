"""A node that may open few files: who is connected is served, who is too many waits."""

import re
import resource
import socket
import subprocess
import time
import urllib.request

import pytest

import martlet_process

OPEN_FILES = 64
DEADLINE_SECS = 60
# More than fit, whatever the node itself takes.
TOO_MANY = 60
PUBACK = b"\x40\x02\x00\x01"


class Client:
    """A client that says what is in a packet and no more."""

    def __init__(self, node, name):
        self.socket = socket.create_connection(("127.0.0.1", node.port()), DEADLINE_SECS)
        name = name.encode()
        self.socket.sendall(
            bytes([0x10, 12 + len(name)]) + b"\x00\x04MQTT\x04\x02\x00\x00\x00" + bytes([len(name)]) + name
        )

    def read(self, length, timeout=DEADLINE_SECS):
        """This number of bytes; fewer if no more come in time."""
        self.socket.settimeout(timeout)
        found = b""
        try:
            while len(found) < length:
                more = self.socket.recv(length - len(found))
                if not more:
                    break
                found += more
        except TimeoutError:
            pass
        return found

    def is_connected(self, timeout=DEADLINE_SECS):
        return self.read(4, timeout) == b"\x20\x02\x00\x00"

    def publish(self):
        """Publishes with QoS 1; true once that is acknowledged, which is when it is synced."""
        self.socket.sendall(b"\x32\x09\x00\x03a/b\x00\x01hi")
        return self.read(4) == PUBACK

    def close(self):
        self.socket.close()


@pytest.fixture
def node(start_node):
    return start_node(open_files=OPEN_FILES, http=True)


def most(node):
    """How many connections it says it takes."""
    [line] = node.facts("at most ")
    return int(re.fullmatch(rf"at most (\d+) connections: {OPEN_FILES} files may be open .*", line)[1])


def healthy(node):
    with urllib.request.urlopen(f"{node.http_url}/health/ready", timeout=DEADLINE_SECS) as answer:
        return answer.status == 200


def metric(node, name):
    with urllib.request.urlopen(f"{node.http_url}/metrics", timeout=DEADLINE_SECS) as answer:
        text = answer.read().decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.MULTILINE)[1])


def cpu_secs(node):
    with open(f"/proc/{node.process.pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_who_is_too_many_waits_and_all_others_are_served(node):
    at_most = most(node)
    clients = [Client(node, f"c{number:03}") for number in range(TOO_MANY)]
    connected, waiting = clients[:at_most], clients[at_most:]
    assert 10 <= at_most < TOO_MANY - 1
    assert all(client.is_connected() for client in connected)
    node.wait_for_log("accepting paused")
    assert not waiting[0].is_connected(0.5)

    assert all(client.publish() for _ in range(20) for client in connected)
    assert healthy(node)
    listed = martlet_process.run("clients", "--data-dir", node.data_dir)
    assert listed.returncode == 0, listed.stderr
    assert len(re.findall(r"^c\d{3} ", listed.stdout, re.MULTILINE)) == at_most
    told = martlet_process.run("health", "--data-dir", node.data_dir)
    assert f"connections at most {at_most}\n" in told.stdout
    assert "No more clients are accepted" in told.stdout
    assert metric(node, "martlet_connections_max") == at_most
    assert metric(node, "martlet_accept_pauses_total") >= 1

    # Each that leaves makes room for the next, in order.
    for leaving, next_one in zip(connected, waiting):
        leaving.close()
        assert next_one.is_connected() and next_one.publish()

    # It waits without work: nothing comes of it but a look now and then.
    before = cpu_secs(node)
    time.sleep(1)
    assert cpu_secs(node) - before < 0.4
    lines = [line for line in node.log().splitlines() if "accepting paused" in line]
    seconds = [line[:19] for line in lines]
    assert len(lines) <= len(set(seconds)) + 1, lines


def test_open_http_connections_take_nothing_from_the_store(node):
    """They are those of one client that sends nothing, or half a request."""
    address = ("127.0.0.1", int(node.http_url.rpartition(":")[2]))
    held = []
    for number in range(TOO_MANY):
        held.append(socket.create_connection(address, DEADLINE_SECS))
        if number % 2:
            held[-1].sendall(b"GET / HTTP/1.1\r\n")
    clients = [Client(node, f"c{number:03}") for number in range(TOO_MANY)]
    assert all(client.is_connected() and client.publish() for client in clients[: most(node)])
    assert healthy(node)
    listed = martlet_process.run("clients", "--data-dir", node.data_dir)
    assert listed.returncode == 0, listed.stderr
    assert "could not be accepted" not in node.log()


def devices_by_admin_sock(node):
    """The devices, as the node itself reads them from its tables."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(DEADLINE_SECS)
        node.connect_to_admin(asking)
        asking.sendall(b"GET /api/v1/devices HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while more := asking.recv(65_536):
            answer += more
    return answer.decode()


def test_the_tables_open_while_clients_and_idle_http_connections_take_all_they_may(node):
    address = ("127.0.0.1", int(node.http_url.rpartition(":")[2]))
    held = [socket.create_connection(address, DEADLINE_SECS) for _ in range(200)]
    clients = [Client(node, f"c{number:03}") for number in range(TOO_MANY)]
    assert all(client.is_connected() for client in clients[: most(node)])
    # The tables are opened now, for the first time: to be read again, and for a request.
    added = martlet_process.run("device", "add", "press-7", "--data-dir", node.data_dir)
    assert added.returncode == 0, added.stderr
    assert "Applied to the running node." in added.stdout, added.stdout
    for _ in range(3):
        answer = devices_by_admin_sock(node)
        assert answer.startswith("HTTP/1.1 200 ") and "press-7" in answer, answer
    assert healthy(node)
    assert "cannot be used" not in node.log()
    assert len(held) == 200


def test_the_figures_of_open_files_add_up(start_node):
    for open_files in (64, 400):
        node = start_node(open_files=open_files, http=True, settings=["node.threads=2"])
        [line] = node.facts("at most ")
        at_most, limit, opened, kept = map(int, re.fullmatch(
            r"at most (\d+) connections: (\d+) files may be open \(ulimit -n\); the node has opened (\d+) of them, and "
            r"keeps (\d+) for the store, the tables, HTTP and admin.sock", line).groups())
        assert limit == open_files and at_most + opened + kept == limit, line


def test_where_too_few_files_may_be_open_the_node_says_how_many_it_needs(tmp_path, start_node):
    for open_files in (16, 24):
        limit = (open_files, open_files)
        done = subprocess.run(
            [martlet_process.binary(), "serve", "--data-dir", str(tmp_path / "data"), "--listen", "mqtt://127.0.0.1:0",
             "--http", "127.0.0.1:0", "--threads", "2"], env=martlet_process.environment(), cwd=tmp_path,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_SECS,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit))
        assert done.returncode == 1, done
        said = (f"too few file descriptors: this process may have {open_files} files open (ulimit -n), and a node with 2 "
                "threads needs at least ")
        assert said in done.stderr and "LimitNOFILE=" in done.stderr and "random" not in done.stderr, done.stderr
    least = int(done.stderr.partition(said)[2].partition(",")[0])
    # With one more than that there is room for a client.
    node = start_node(open_files=least + 1, http=True, settings=["node.threads=2"])
    client = Client(node, "c")
    assert client.is_connected() and client.publish()
    # It starts with fewer, and says that these are too few.
    node = start_node(open_files=40, http=True, settings=["node.threads=2"])
    [line] = node.facts("at most ")
    assert f"which is too few: a node needs at least {least}" in line, line
