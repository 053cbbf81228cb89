#!/usr/bin/env python3
"""Runs Mosquitto's own test scripts (test/broker/NN-*.py) against Martlet.

MOSQUITTO_SRC names a checkout of https://github.com/eclipse-mosquitto/mosquitto; nothing of it is
kept here. The scripts start what they take for Mosquitto: a launcher that reads their
configuration file and starts Martlet with the same settings. Packets are compared by what MQTT
fixes, as in mosquitto_sequences.py. Exit status 0: all pass but those that EXPLAINED names, and
these fail; 1: not so; 2: it could not run. Arguments select scripts by a part of their name and
print their output.
"""

import concurrent.futures
import os
import pathlib
import re
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
sys.path.insert(0, str(HERE))
import martlet_process  # noqa: E402
from mosquitto_sequences import (  # noqa: E402
    CONNACK,
    PUBLISH,
    SETTINGS,
    Mismatch,
    Reader,
    complete_packet,
    meaning,
)

# Chapters of the suite that are about MQTT; the others are about bridges (06), TLS (08), plugins
# and Mosquitto's files (09, 14, 15, 23), its command line, configuration and control topics (16,
# 17), Sparkplug (20), the PROXY protocol (21) and its HTTP API (22).
CHAPTERS = {"01", "02", "03", "04", "05", "07", "10", "11", "12", "13"}

# Scripts of other chapters that are run all the same: TLS as Mosquitto's files have it.
SCRIPTS_TOO = {"08-ssl-connect-no-auth.py", "08-ssl-connect-cert-auth.py"}

# Script to why it is not run.
NOT_RUN = {
    "01-bad-initial-packets.py": "it measures address space, which threads reserve, not memory",
    "01-connect-unix-socket.py": "there are no listeners on Unix sockets yet",
    "01-connect-uname-password-success-no-tls.py": "it does not set its port",
    "03-publish-qos1-queued-bytes.py": "it is for Python 2",
}

# Script to why it fails. Section numbers are MQTT 5's unless 3.1.1 is named.
EXPLAINED = {
    "01-connect-global-max-connections.py": "section 3.2.2.2: a CONNACK with 0x89 comes before the close",
    "01-connect-max-keepalive.py": "3.1.1 section 3.2.2.3: expects 0x02, which is about the Client Identifier; here the ceiling holds for them",
    "02-subpub-qos0-long-topic.py": "section 3.9.3: a filter beyond the limit is refused alone",
    "02-subpub-qos1-message-expiry.py": "expects a Packet Identifier, which are the server's choice",
    "02-subpub-qos1-oversize-payload.py": "[MQTT-3.4.2-1]: expects 0x95, which is not a reason of PUBACK: Paho's Python client ends with an error; Mosquitto's manual says 0x83",
    "02-subscribe-long-topic.py": "section 3.9.3: a filter beyond the limit is refused alone",
    "03-publish-c2b-disconnect-qos2.py": "section 3.7.2.1: 0x92 for an unknown Packet Identifier",
    "03-publish-long-topic.py": "section 3.14.2.1: 0x90 for a topic that is not accepted",
    "03-publish-qos1-max-inflight-expire.py": "expects a Packet Identifier, the server's choice",
    "03-publish-qos2-reuse-mid.py": "[MQTT-4.3.3-10]: until PUBREL it is the same message",
    "07-will-delay-invalid-573191.py": "section 3.2.2.2: 0x90 for a Will Topic that is none",
    "07-will-no-flag.py": "[MQTT-3.2.2-6]: expects CONNACK flags 0x82 with Success",
    "07-will-null-topic.py": "section 3.2.2.2: 0x90 for a Will Topic that is none",
    "07-will-takeover.py": "section 3.1.4: the Will is sent at takeover, too, if it has no delay",
    "12-prop-maximum-packet-size-publish-qos1.py": "expects a Packet Identifier, the server's choice",
    "12-prop-maximum-packet-size-publish-qos2.py": "expects a Packet Identifier, the server's choice",
}

TIMEOUT_SECS = 90
PARALLEL = 4

# Limits that Mosquitto does not have, or has elsewhere.
AS_MOSQUITTO = [
    "limits.client_id_bytes=65535",
    "limits.topic_levels=201",
    "limits.connect_packet_bytes=2000000",
    "limits.user_properties=65535",
]

# Keys of Mosquitto's configuration that Martlet has too; {} is the value.
KEYS = {
    "max_inflight_messages": ["limits.in_flight={}", "limits.receive_maximum={}"],
    "max_queued_messages": ["limits.queued_messages={}"],
    "max_queued_bytes": ["limits.queued_bytes={}"],
    "max_packet_size": ["limits.packet_bytes={}"],
    "max_keepalive": ["limits.keep_alive_max_secs={}"],
    "max_topic_alias": ["limits.topic_alias_maximum={}"],
    "max_topic_alias_broker": ["limits.topic_alias_outbound={}"],
    "retain_available": ["mqtt.retain_available={}"],
    "global_max_connections": ["limits.connections={}"],
    "sys_interval": ["mqtt.sys_interval_secs={}"],
}
# Keys that make no difference to what the scripts look at.
IGNORED = {"log_type", "log_dest", "log_timestamp", "connection_messages"}
# Files with these are read by Martlet itself.
READ_ITSELF = {
    "allow_zero_length_clientid",
    "cafile",
    "max_qos",
    "maximum_qos",
    "message_size_limit",
    "per_listener_settings",
}
NEEDS = "needs "


# The launcher.


def read_configuration(path):
    """Martlet's settings and listeners for a configuration file; exits if they cannot be had."""
    settings, listeners = [], []
    for line in path.read_text(encoding="utf-8").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        key, value = words[0], words[1] if len(words) > 1 else ""
        if key in ("listener", "port") and value.isdigit():
            listeners.append(int(value))
        elif key in KEYS:
            settings += [setting.format(value) for setting in KEYS[key]]
        elif key in ("allow_anonymous", "persistence") and value in ("true", "false"):
            # Listeners on loopback are open; sessions outlive connections, not yet the process.
            if (key, value) in (("allow_anonymous", "false"), ("persistence", "true")):
                missing(f"{key} {value}")
        elif key not in IGNORED:
            missing(key)
    return settings, listeners


def is_read_itself(path):
    """Martlet reads this file as Mosquitto would."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    # The scripts look for Mosquitto's database.
    return ["persistence", "true"] not in lines and any(line and line[0] in READ_ITSELF for line in lines)


def missing(what):
    """Leaves word that the script cannot be run."""
    pathlib.Path(os.environ["MARTLET_MISSING"]).write_text(what, encoding="utf-8")
    sys.exit(3)


def launch(arguments):
    """Becomes Martlet, started as Mosquitto would be with these arguments."""
    settings, listeners, port, file = [], [], None, None
    arguments = iter(arguments)
    for argument in arguments:
        if argument == "-c":
            path = pathlib.Path(next(arguments))
            if is_read_itself(path):
                file = path
            else:
                settings, listeners = read_configuration(path)
        elif argument == "-p":
            port = int(next(arguments))
        elif argument != "-v":
            missing(f"option {argument}")
    listeners = list(dict.fromkeys(listeners or [port or 1883]))
    data_dir = tempfile.mkdtemp(dir=os.environ["MARTLET_SCRATCH"])
    command = [martlet_process.binary(), "serve", "--data-dir", data_dir, "--http", "off"]
    if file:
        command += ["--mosquitto-conf", str(file.resolve())]
        if port and not re.search(r"^(listener|port)\s", file.read_text(encoding="utf-8"), re.MULTILINE):
            command += ["--listen", f"mqtt://127.0.0.1:{port}"]
        # It says how large packets may be.
        settings = [one for one in SETTINGS if not one.startswith("limits.packet_bytes")]
        os.execve(command[0], [*command, *sets([*settings, *AS_MOSQUITTO])], martlet_process.environment())
    for port in listeners:
        command += ["--listen", f"mqtt://127.0.0.1:{port}"]
    command += sets([*SETTINGS, *AS_MOSQUITTO, *settings])
    os.execve(command[0], command, martlet_process.environment())


def sets(settings):
    return [argument for setting in settings for argument in ("--set", setting)]


# Comparing packets by what MQTT fixes of them.


def connack_properties(packet):
    reader = Reader(packet[1:])
    reader.varint()
    reader.take(2)
    try:
        return reader.properties() if reader.left() else []
    except Mismatch:
        return [("malformed", packet)]


def same(got, expected):
    """Whether they mean the same in one version; all expected CONNACK properties must be there."""
    if got[0] >> 4 == CONNACK and expected[0] >> 4 == CONNACK:
        if meaning(got, True) != meaning(expected, True):
            return False
        found = connack_properties(got)
        return all(one in found for one in connack_properties(expected))
    for v5 in (True, False):
        try:
            if meaning(got, v5) == meaning(expected, v5):
                return True
        except Mismatch:
            pass
    return False


def split(data):
    packets = []
    while data:
        length = complete_packet(data)
        if length is None:
            return [*packets, data]
        packets.append(data[:length])
        data = data[length:]
    return packets


def take_packet(sock):
    """The next packet, byte by byte since the scripts read from the socket too."""
    data = b""
    while complete_packet(data) is None:
        more = sock.recv(2 if not data else 1 if len(data) < 5 else length_left(data))
        if not more:
            raise BrokenPipeError("closed")
        data += more
    return data


def length_left(data):
    reader = Reader(data[1:])
    return max(1, reader.varint() - reader.left())


def expect_packets(mosq_test, early, sock, name, expected):
    """Like the suite's own, but a PUBLISH may come early."""
    if not expected:
        if not sock.recv(1):
            raise BrokenPipeError(f"when reading {name}")
        raise mosq_test.TestError
    waiting = early.setdefault(sock.fileno(), [])
    for wanted in split(expected):
        # A script leaves out the end of a packet that it does not compare.
        is_whole = complete_packet(wanted) is not None
        equal = same if is_whole else lambda got, wanted: got.startswith(wanted)
        found = next((one for one in waiting if equal(one, wanted)), None)
        if found:
            waiting.remove(found)
            continue
        while True:
            try:
                got = take_packet(sock)
            except TimeoutError:
                print(f"{name}: nothing came; expected {wanted.hex()}")
                raise mosq_test.TestError from None
            if equal(got, wanted):
                break
            if got[0] >> 4 == PUBLISH and wanted[0] >> 4 != PUBLISH:
                waiting.append(got)
                continue
            print(f"{name}: got {got.hex()}; expected {wanted.hex()}")
            raise mosq_test.TestError
    return True


def expect_unordered(mosq_test, early, sock, first, second, error):
    """Two packets in any order, of which one may have come early."""
    got = early.setdefault(sock.fileno(), [])
    try:
        while len(got) < 2:
            got.append(take_packet(sock))
    except (BrokenPipeError, TimeoutError):
        raise ValueError(error) from None
    if not any(same(got[i], first) and same(got[1 - i], second) for i in (0, 1)):
        print(f"{error}: got {got[0].hex()} {got[1].hex()}")
        raise ValueError(error)
    got.clear()


def play(script, ports):
    """In a process of its own: one script."""
    sys.path.insert(0, str(script.parent))
    sys.path.insert(0, str(script.parent.parent))
    mosq_test = __import__("mosq_test")
    # Packets that came before they were wanted, by file descriptor.
    early = {}
    mosq_test.expect_packet = lambda sock, name, expected: expect_packets(
        mosq_test, early, sock, name, expected
    )
    mosq_test.receive_unordered = lambda sock, first, second, error: expect_unordered(
        mosq_test, early, sock, first, second, error
    )
    sys.argv = [str(script), *ports]
    runpy.run_path(str(script), run_name="__main__")


# Running all of them.


def make_build_root(scratch):
    """What the scripts take for Mosquitto's build tree."""
    broker = scratch / "build/src/mosquitto"
    broker.parent.mkdir(parents=True)
    broker.write_text(
        f'#!/bin/sh\nexec {sys.executable} {pathlib.Path(__file__).resolve()} --launch "$@"\n'
    )
    broker.chmod(0o755)
    clients = scratch / "build/client"
    clients.mkdir()
    for name in ("mosquitto_pub", "mosquitto_sub", "mosquitto_rr"):
        if path := shutil.which(name):
            (clients / name).symlink_to(path)


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [str(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def run_apart(script, scratch):
    """Passed, failed or cannot be run; and its output. Again if somebody else took its port meanwhile."""
    for _ in range(3):
        result, output = run_once(script, scratch)
        if "is in use" not in output:
            break
    return result, output


def run_once(script, scratch):
    asks = re.search(r"get_port\((\d*)\)", script.read_text(encoding="utf-8"))
    ports = free_ports(int(asks.group(1) or 1) if asks else 1)
    work = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    word = work / "missing"
    command = [sys.executable, __file__, "--play", str(script), *ports]
    environment = {
        **os.environ,
        "BUILD_ROOT": str(scratch / "build"),
        "MARTLET_MISSING": str(word),
        "MARTLET_SCRATCH": str(work),
    }
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_SECS,
        )
        output, passed = done.stdout.decode(errors="replace"), done.returncode == 0
    except subprocess.TimeoutExpired as expired:
        output, passed = (expired.stdout or b"").decode(errors="replace") + "\ntook too long", False
    if absent := re.search(r"No module named '(psutil)'|missing (psutil) module", output):
        return f"needs Python's {absent.group(1) or absent.group(2)}", output
    if word.exists():
        return NEEDS + "Mosquitto's " + word.read_text(encoding="utf-8"), output
    return "passed" if passed else "failed", output


def run_all(source, selected):
    scripts = [
        script
        for script in sorted((source / "test/broker").glob("[0-9][0-9]-*.py"))
        if (script.name[:2] in CHAPTERS or script.name in SCRIPTS_TOO)
        and script.name not in NOT_RUN
        and (not selected or any(part in script.name for part in selected))
    ]
    counts = {}
    bad = 0
    with tempfile.TemporaryDirectory(prefix="martlet-mosquitto-") as scratch:
        scratch = pathlib.Path(scratch)
        make_build_root(scratch)
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            results = pool.map(lambda script: run_apart(script, scratch), scripts)
            for script, (result, output) in zip(scripts, results):
                why = EXPLAINED.get(script.name)
                as_expected = result.startswith(NEEDS) or (result == "failed") == bool(why)
                bad += not as_expected
                counts[result.split()[0]] = counts.get(result.split()[0], 0) + 1
                print(f"{script.name}: {result}" + (f" ({why})" if why else ""))
                if selected or not as_expected:
                    print("    " + output.replace("\n", "\n    "))
    summary = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    print(f"{len(scripts)} scripts: {summary}; {bad} not as they should be")
    return 1 if bad or not counts.get("passed") else 0


def main():
    source = os.environ.get("MOSQUITTO_SRC")
    if not source or not (pathlib.Path(source) / "test/broker/mosq_test_helper.py").is_file():
        print("MOSQUITTO_SRC must name a checkout of eclipse-mosquitto/mosquitto", file=sys.stderr)
        return 2
    if sys.argv[1:2] == ["--launch"]:
        return launch(sys.argv[2:])
    if sys.argv[1:2] == ["--play"]:
        return play(pathlib.Path(sys.argv[2]), sys.argv[3:])
    return run_all(pathlib.Path(source).resolve(), sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
