"""The brokers that bench/compare measures: how each is configured, started and ended. Standard library only.

Every broker gets a fresh directory and a free port for each run, one thread where that can be said, and no
limits that a scenario would meet; no authentication, no log of messages; TLS in the scenarios named for it.
"""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import certificates

MOSQUITTO = """\
user root
listener {port} 127.0.0.1
allow_anonymous true
max_queued_messages 0
max_inflight_messages 1000
set_tcp_nodelay true
{tls}log_type none
persistence {persistence}
persistence_location {dir}/
autosave_interval 1800
"""

RUMQTTD = """\
id = 0
[router]
id = 0
max_connections = 10010
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:{port}"
next_connection_delay_ms = 0
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 1048576
    max_inflight_count = 500
    dynamic_filters = true
"""

FLASHMQ = """\
allow_anonymous true
thread_count 1
log_level error
log_file {dir}/flashmq.log
storage_dir {dir}
max_qos_msg_pending_per_client 65535
max_qos_bytes_pending_per_client 1073741824
listen {
    protocol mqtt
    inet_protocol ip4
    inet4_bind_address 127.0.0.1
    port {port}
    tcp_nodelay {nodelay}
{tls}}
"""

# What stands at {tls} of a configuration, in scenarios with it. Both are of P-256, TLS 1.3 is negotiated.
MOSQUITTO_TLS = "certfile {certificate}\nkeyfile {key}\n"
FLASHMQ_TLS = "    fullchain {certificate}\n    privkey {key}\n"

# Scenarios over TLS begin with this.
TLS = "tls-"

# Scenarios in which brokers that can keep messages on disk do.
STORED = {"offline"}


class Broker:
    """A broker. Its command and configuration have {port}, {dir} and {config} to be filled in."""

    def __init__(self, name, command, config=None, *, column=None, only=None, never=(), absent=None, tls=None):
        self.name, self.command, self.config = name, command, config
        # Variants of one broker share a column; the better figure counts.
        self.column = column or name
        self.only, self.never = only, never
        self.absent = absent
        # Replaces the last words of the command, or what stands at {tls} of the configuration.
        self.tls = tls

    def missing(self):
        """Why it cannot be measured, if it cannot."""
        if self.absent:
            return self.absent
        return None if shutil.which(self.command[0]) else f"{self.command[0]} is not there"

    def serves(self, scenario):
        if scenario.startswith(TLS) and self.tls is None:
            return False
        return scenario not in self.never and (self.only is None or scenario in self.only)


class Running:
    """A broker that runs, pinned to a core, until the end of a `with` block."""

    def __init__(self, broker, scenario, core):
        self.broker, self.scenario, self.core = broker, scenario, core

    def __enter__(self):
        self.directory = tempfile.mkdtemp(prefix="martlet-compare-")
        self.port = free_port()
        # rumqttd goes by the extension, the others do not look at it.
        config = pathlib.Path(self.directory, "config.toml")
        values = {
            "port": str(self.port),
            "dir": self.directory,
            "config": str(config),
            "persistence": "true" if self.scenario in STORED else "false",
            "tls": "",
        }
        command = self.broker.command
        if self.scenario.startswith(TLS):
            made = certificates.server()
            values |= {"certificate": made.certificate, "key": made.key}
            if self.broker.config:
                values["tls"] = fill(self.broker.tls, values)
            else:
                command = self.broker.tls
        if self.broker.config:
            config.write_text(fill(self.broker.config, values))
        command = [fill(part, values) for part in command]
        self.log = open(pathlib.Path(self.directory, "broker.log"), "w+b")
        self.process = subprocess.Popen(
            ["taskset", "-c", str(self.core), *command],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )
        try:
            self.wait_until_open()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def wait_until_open(self):
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with {self.process.returncode}: {self.last_words()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("it did not open its port within 15 s")

    def last_words(self):
        self.log.seek(0)
        return b" ".join(self.log.read()[-200:].split()).decode(errors="replace")


def fill(text, values):
    """Fills in {name}; other braces stay."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    return text


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def martlet(binary, *more, scheme="mqtt"):
    return [binary, "serve", "--listen", scheme + "://127.0.0.1:{port}", "--http", "off", "--threads", "1",
            "--data-dir", "{dir}/data", "--log-level", "error", *more]


def known(binary, floor, rumqttd, others):
    """All brokers, Martlet first. `others` are NAME=COMMAND."""
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    flashmq = os.environ.get("MARTLET_FLASHMQ")
    absent = None if flashmq else "MARTLET_FLASHMQ does not name its binary"
    plain = {"wildcards", "filters", "share", "retained", "offline", "persistent", "persistent-memory"}
    in_tls = martlet(binary, "--set", "tls.certificate={certificate}", "--set", "tls.key={key}",
                     "--allow-anonymous", scheme="mqtts")
    in_memory = martlet(binary, "--durability", "memory")
    # No peer syncs: what they do is the scenario in memory.
    synced = {"persistent"}
    brokers = [
        Broker("martlet", martlet(binary), never={"persistent-memory"}, tls=in_tls),
        Broker("martlet in memory", in_memory, column="martlet", only={"persistent-memory"}),
        Broker("floor", [floor, "{port}"], never=plain),
        Broker("mosquitto", [mosquitto, "-c", "{config}"], MOSQUITTO, never=synced, tls=MOSQUITTO_TLS),
        Broker("rumqttd", [rumqttd, "-c", "{config}", "-q"], RUMQTTD, never=synced),
    ]
    for nodelay in ("true", "false"):
        config = FLASHMQ.replace("{nodelay}", nodelay)
        command = [flashmq or "flashmq", "--config-file", "{config}"]
        name = "flashmq nodelay" if nodelay == "true" else "flashmq"
        brokers.append(Broker(name, command, config, column="flashmq", never=synced, absent=absent,
                              tls=FLASHMQ_TLS))
    for other in others:
        name, separator, command = other.partition("=")
        if not separator or not command.split():
            raise SystemExit(f"--broker {other}: it must be NAME=COMMAND")
        brokers.append(Broker(name, command.split()))
    return brokers
