"""Variables and flags of the documents: the .env.example of each system starts a node, and each name
has its documented meaning."""

import json
import re
import subprocess

import pytest

import martlet_process
from programs import Mosquitto
from server_process import free_ports
from test_mosquitto_conf import upgraded
from test_sinks import until

DEPLOY = martlet_process.ROOT / "deploy"
EXAMPLES = sorted(path.parent.name for path in DEPLOY.glob("*/.env.example"))


def with_free_ports(text):
    """The same settings with ports that nobody uses, and those ports by name."""
    names = re.findall(r"^(\w*(?:PORT|LISTEN_ADDR))=:?\d+", text, re.M)
    ports = dict(zip(names, free_ports(len(names))))
    for name, port in ports.items():
        text = re.sub(rf"^({name}=:?)\d+", rf"\g<1>{port}", text, flags=re.M)
    return text, ports


def commented_in(text, *names):
    for name in names:
        text = re.sub(rf"^#({name}=)", r"\1", text, flags=re.M)
    return text


def node_of(place, text, listen=(), **options):
    (place / ".env").write_text(text)
    return martlet_process.Node(listen=listen, directory=place, **{"http": False, **options})


def get(url, *options):
    done = subprocess.run(["curl", "-sS", "-i", url, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done
    head, _, body = done.stdout.replace("\r\n", "\n").partition("\n\n")
    kind = re.search(r"^content-type: *([^;\n]*)", head, re.I | re.M)
    return int(head.split()[1]), kind and kind.group(1), body


def refused(url):
    return subprocess.run(["curl", "-sS", url], capture_output=True, timeout=60).returncode == 7


def check(place, text="", variables=(), *options):
    (place / ".env").write_text(text)
    return subprocess.run([martlet_process.binary(), "config", "check", *options], capture_output=True, text=True,
                          env={**martlet_process.environment(), **dict(variables)}, cwd=place, timeout=60)


def shown(place, text="", variables=(), *options):
    """Values in force that are not the default, and the HTTP listeners."""
    (place / ".env").write_text(text)
    done = subprocess.run([martlet_process.binary(), "config", "show", "--json", "--changed", *options],
                          capture_output=True, text=True, timeout=60, cwd=place,
                          env={**martlet_process.environment(), **dict(variables)})
    assert done.returncode == 0, done
    told = json.loads(done.stdout)
    tables = [{key: found["value"] for key, found in table.items()} for table in told["http_listeners"]]
    return {value["key"]: value["value"] for value in told["values"]}, tables


def test_there_is_one_for_each_system():
    assert EXAMPLES == ["iotflow", "microservice", "panel-broker", "service-mqtt", "tls-guide"]


@pytest.mark.parametrize("system", EXAMPLES)
def test_a_node_starts_with_it(system, tmp_path):
    text, ports = with_free_ports((DEPLOY / system / ".env.example").read_text())
    http = {"microservice": "HTTP_SERVER_PORT", "iotflow": "PORT", "service-mqtt": "LISTEN_ADDR"}.get(system)
    mqtt = {"microservice": "MQTT_BROKER_PORT", "iotflow": "MQTT_PORT", "service-mqtt": "MQTT_PORT"}.get(system)
    options = {} if mqtt else {"listen": ("mqtt://127.0.0.1:0",)}
    with node_of(tmp_path, text, **options) as node:
        if mqtt:
            assert node.port() == ports[mqtt]
        if http:
            assert get(f"http://127.0.0.1:{ports[http]}/healthz")[0] == 200
        assert any(line.endswith("/.env") for line in node.facts("configuration from"))
    env = json.loads(subprocess.run([martlet_process.binary(), "config", "env", "--json"], cwd=tmp_path, timeout=60,
                                    env=martlet_process.environment(), capture_output=True, text=True).stdout)
    names = re.findall(r"^(\w+)=", text, re.M)
    assert {row["name"] for row in env if row["state"] == "unknown"} == set(), env
    assert set(names) <= {row["name"] for row in env}, env


def test_the_names_of_iotflow_have_their_meaning(tmp_path):
    text, ports = with_free_ports((DEPLOY / "iotflow/.env.example").read_text())
    text = commented_in(text, "RATE_LIMIT_PER_MINUTE", "RATE_LIMIT_BURST", "ALLOWED_ORIGINS")
    with node_of(tmp_path, text.replace("LOG_LEVEL=INFO", "LOG_LEVEL=WARNING")) as node:
        # Where localhost has an address of IPv6 too, the node listens on both.
        urls = [url for url in node.urls if "//[::1]:" not in url]
        assert urls == [f"mqtt://127.0.0.1:{ports['MQTT_PORT']}", f"ws://127.0.0.1:{ports['MQTT_WEBSOCKET_PORT']}/*"]
        assert {upgraded(ports["MQTT_WEBSOCKET_PORT"], path) for path in ("/", "/mqtt", "/ws?token=1")} == {101}
        assert (tmp_path / "logs/iotflow.log").is_file()
        url = f"http://127.0.0.1:{ports['PORT']}/api/v1/config"
        told = {value["key"]: value["value"] for value in json.loads(get(url)[2])["values"]}
        expected = {"log.level": "warn", "log.file": "logs/iotflow.log", "iotflow.requests_per_minute": 60, "iotflow.requests_burst": 10,
                    "http.origins": "http://localhost:3000", "registry.max_devices_per_user": 100}
        assert {key: told[key] for key in expected} == expected


def test_limits_of_requests_are_those_of_devices(tmp_path):
    for text, expected in [("RATE_LIMIT_PER_MINUTE=60", (60, None)),
                           ("RATE_LIMIT_PER_MINUTE=60\nRATE_LIMIT_BURST=10", (60, 10)),
                           ("RATE_LIMIT_BURST=10", (None, 10))]:
        values, _ = shown(tmp_path, f"IOTFLOW_ADMIN_TOKEN=0123456789abcdef\n{text}\n")
        found = tuple(values.get(f"iotflow.requests_{name}") for name in ("per_minute", "burst"))
        assert (found, values.get("http.rate")) == (expected, None), text


GENERIC = [("HOST", "127.0.0.1"), ("PORT", "5999"), ("LOG_LEVEL", "debug"), ("LOG_FORMAT", "json"), ("LOG_FILE", "a.log"),
           ("RATE_LIMIT_PER_MINUTE", "120"), ("RATE_LIMIT_BURST", "7"), ("ALLOWED_ORIGINS", "http://localhost:3000")]


def test_a_name_that_many_programs_have_counts_only_where_it_is_meant(tmp_path):
    expected = {"log.level": "debug", "log.format": "json", "log.file": "a.log", "iotflow.requests_per_minute": 120, "iotflow.requests_burst": 7,
                "http.origins": "http://localhost:3000"}
    listener = [{"url": "127.0.0.1:5999", "compat": listener_compat("3")}]
    assert shown(tmp_path, variables=GENERIC) == ({}, [])
    assert shown(tmp_path, "".join(f"{name}={value}\n" for name, value in GENERIC)) == (expected, listener)
    for own in [("ENABLE_JETSTREAM", "true"), ("IOTFLOW_ADMIN_TOKEN", "0123456789abcdef0")]:
        values, tables = shown(tmp_path, variables=[*GENERIC, own])
        assert {key: values.get(key) for key in expected} == expected and tables == listener
    values, tables = shown(tmp_path, variables=[*GENERIC, ("NATS_URL", "nats://h"), ("LISTEN_ADDR", ":5998")])
    assert {key: values.get(key) for key in expected} == expected
    assert [table["url"] for table in tables] == ["127.0.0.1:5999", "0.0.0.0:5998"]
    # The process overrides the file.
    values, _ = shown(tmp_path, "LOG_LEVEL=error\n", [("LOG_LEVEL", "WARNING")])
    assert values == {"log.level": "warn"}
    # Martlet's own names are stronger, and values that mean nothing stop no start.
    values, _ = shown(tmp_path, "LOG_LEVEL=debug\nLOG_FORMAT=logfmt\n", [("MARTLET_LOG__LEVEL", "error")])
    assert values == {"log.level": "error"}


def listener_compat(first):
    """Whose routes a listener of a system has, with its own first where the program has them."""
    done = subprocess.run([martlet_process.binary(), "config", "show", "--json"], capture_output=True, text=True,
                          env=martlet_process.environment(), cwd="/tmp", timeout=60)
    values = {value["key"]: value["value"] for value in json.loads(done.stdout)["values"]}
    default = values["http.compat"].replace(" ", "").split(",")
    known = subprocess.run([martlet_process.binary(), "config", "check", "--set", f"http.compat={first}"],
                           capture_output=True, env=martlet_process.environment(), cwd="/tmp", timeout=60)
    own = [first] if "is not known" not in known.stderr.decode() else []
    return ",".join(own + [number for number in default if number != first])


@pytest.mark.parametrize("text, told", [
    ("HTTP_SERVER_PORT=8099\n", {"url": "0.0.0.0:8099", "first": "1", "metrics": "json"}),
    ("HTTP_SERVER_PORT=:8099\n", {"url": "0.0.0.0:8099", "first": "1", "metrics": "json"}),
    ("HTTP_SERVER_PORT=127.0.0.1:8099\n", {"url": "127.0.0.1:8099", "first": "1", "metrics": "json"}),
    ("PORT=5000\n", {"url": "0.0.0.0:5000", "first": "3"}),
    ("HOST=127.0.0.1\nPORT=5000\n", {"url": "127.0.0.1:5000", "first": "3"}),
    ("LISTEN_ADDR=:9091\n", {"url": "0.0.0.0:9091", "first": "4"}),
    ("LISTEN_ADDR=[::1]:9091\n", {"url": "[::1]:9091", "first": "4"}),
])
def test_a_variable_adds_one_http_listener(tmp_path, text, told):
    expected = {**told, "compat": listener_compat(told["first"])}
    del expected["first"]
    assert shown(tmp_path, text)[1] == [expected]


@pytest.mark.parametrize("text, says", [
    ("HTTP_SERVER_PORT=x\n", 'HTTP_SERVER_PORT is "x", expected a port'),
    ("LISTEN_ADDR=9091x\n", 'LISTEN_ADDR is "9091x", expected a port'),
    ("PORT=70000\n", 'PORT is "70000", expected a port'),
    ("MQTT_PORT=0\n", 'MQTT_PORT is "0", expected a port from 1 to 65535'),
    ("HTTP_SERVER_PORT=8099\nLISTEN_ADDR=:8099\n", ".env line 1 HTTP_SERVER_PORT requests"),
    ("MARTLET_HTTP__LISTEN=127.0.0.1:8099\nHTTP_SERVER_PORT=8099\n", "which http.listen requests; give one of them another port"),
    ("MQTT_USE_TLS=true\n", "MQTT_USE_TLS is true, and MQTT_CERT_FILE_PATH names no file"),
    ("MQTT_BROKER_ENABLED=maybe\n", "expected true or false"),
    ("ALLOWED_ORIGINS=panel\n", "is not a valid origin"),
    ("MARTLET_EVENTS__PUSH_URL=ws://h/app/k\nMARTLET_EVENTS__PUSH_TOPICS=a/#/b\n", "is not a valid Topic Filter"),
])
def test_what_is_wrong_is_named(tmp_path, text, says):
    done = check(tmp_path, text)
    assert done.returncode != 0 and says in done.stderr, done


def test_the_plain_listener_has_other_names(tmp_path):
    [mqtt, broker] = free_ports(2)
    with node_of(tmp_path, f"MQTT_HOST=localhost\nMQTT_PORT={mqtt}\n") as node:
        assert {url for url in node.urls if "[" not in url} == {f"mqtt://127.0.0.1:{mqtt}"}
    with node_of(tmp_path, f"MQTT_HOST=127.0.0.2\nMQTT_PORT={mqtt}\nMQTT_BROKER_HOST=127.0.0.1\nMQTT_BROKER_PORT={broker}\n") as node:
        assert node.urls == [f"mqtt://127.0.0.1:{broker}"]
    with node_of(tmp_path, f"MQTT_HOST=192.0.2.7\nMQTT_PORT={mqtt}\n") as node:
        assert node.urls == [f"mqtt://127.0.0.1:{mqtt}"]
        assert "192.0.2.7 is not an address of this machine" in node.log()


def test_a_node_for_other_machines_starts_without_users_and_demands_credentials(tmp_path):
    [mqtt, http] = free_ports(2)
    text = f"MQTT_HOST=0.0.0.0\nMQTT_PORT={mqtt}\nLISTEN_ADDR=:{http}\n"
    with node_of(tmp_path, text) as node:
        assert "clients need credentials" in node.announced
        assert Mosquitto(node).pub("-t", "a", "-m", "x").returncode != 0
        warned = lambda: [line for line in json.loads(get(f"http://127.0.0.1:{http}/api/v1/health")[2])["warnings"]
                          if "clients need credentials at" in line]
        [told] = warned()
        assert "martlet user add" in told and "martlet device add" in told and "--allow-anonymous" in told
        added = subprocess.run(["curl", "-sS", f"http://127.0.0.1:{http}/devices", "-d", '{"type": "t"}'],
                               capture_output=True, text=True, timeout=20)
        device = json.loads(added.stdout)
        # A body may begin with a byte order mark, as editors of Windows write it.
        for path, body in (("devices", '{"type": "t"}'), ("api/v1/devices", '{"id": "d"}')):
            status, _, told = get(f"http://127.0.0.1:{http}/{path}", "--json", "\ufeff" + body)
            assert status in (200, 201), told
        login = ("-u", device["mqtt_user"], "-P", device["mqtt_password"])
        done = Mosquitto(node).pub(*login, "-t", f"raw.{login[1]}", "-m", "x", "-q", "1")
        assert done.returncode == 0, (done, node.log())
        assert Mosquitto(node).pub("-t", "a", "-m", "x").returncode != 0


def test_the_port_of_service_mqtt_is_open_to_other_machines(tmp_path):
    listeners = lambda text: [line for line in check(tmp_path, text).stdout.splitlines() if "it listens on" in line]
    assert listeners("MQTT_PORT=1899\n")[0].endswith(" mqtt://127.0.0.1:1899")
    for name in ("LISTEN_ADDR=:9099", "ENABLE_JETSTREAM=true", "NATS_URL=nats://localhost"):
        assert listeners(f"MQTT_PORT=1899\n{name}\n")[0].endswith(" mqtt://0.0.0.0:1899")
    assert listeners("MQTT_PORT=1899\nMQTT_HOST=127.0.0.1\nLISTEN_ADDR=:9099\n")[0].endswith(" mqtt://127.0.0.1:1899")


def test_naming_one_listener_closes_that_of_websocket_with_a_word(tmp_path):
    [mqtt, web] = free_ports(2)
    said = "only the listeners that are named are open; for WebSocket set MQTT_WEBSOCKET_PORT=9001"
    with node_of(tmp_path, f"MQTT_PORT={mqtt}\n") as node:
        assert len(node.urls) == 1 and [line for line in node.facts(said) if "/.env line 1 MQTT_PORT: " in line], node.log()
    with node_of(tmp_path, f"MQTT_PORT={mqtt}\nMQTT_WEBSOCKET_PORT={web}\n") as node:
        assert len(node.urls) == 2 and said not in node.log()


def test_the_last_line_of_a_name_applies_and_both_are_named(tmp_path):
    values, _ = shown(tmp_path, "MQTT_BROKER_AUTH_ENABLED=false\nA=1\nMQTT_BROKER_AUTH_ENABLED=true\n")
    assert values == {"auth.enabled": "on"}
    done = check(tmp_path, "LOG_LEVEL=debug\nLOG_LEVEL=error\nMQTT_PORT=${NO_SUCH_PORT}\n")
    assert "line 1: LOG_LEVEL is set again in line 2, and the last line applies" in done.stdout, done
    assert "line 3: MQTT_PORT refers to NO_SUCH_PORT, which is not set" in done.stdout, done


def test_lines_with_a_colon_are_read_and_others_without_a_value_are_named(tmp_path):
    values, _ = shown(tmp_path, "MQTT_BROKER_AUTH_ENABLED: true\nMQTT_BROKER_LOG_LEVEL\n")
    assert values == {"auth.enabled": "on"}
    done = check(tmp_path, "# c\nset LOG_LEVEL=debug\nLOG_LEVEL: 'error'\n\nMQTT_PORT 1883\n")
    assert f"{tmp_path}/.env, lines 2, 5: skipped, expected NAME=VALUE" in done.stdout, done


def test_names_of_iotflow_store_telemetry(tmp_path):
    assert shown(tmp_path, "MAX_DEVICES_PER_USER=3\n")[0]["telemetry.enabled"] is True
    values, _ = shown(tmp_path, "MAX_DEVICES_PER_USER=3\n", [("MARTLET_TELEMETRY__ENABLED", "false")])
    assert values.get("telemetry.enabled", False) is False


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    place = tmp_path_factory.mktemp("certs")
    link = place / "generate_certs.sh"
    link.symlink_to(martlet_process.binary())
    assert subprocess.run([link], cwd=place, capture_output=True, timeout=60).returncode == 0
    return place / "config/certs"


@pytest.mark.parametrize("own", [True, False])
def test_a_port_of_tls_serves_tls_only(tmp_path, certificates, own):
    [port, other] = free_ports(2)
    files = f"MQTT_CERT_FILE_PATH={certificates}/server.crt\nMQTT_KEY_FILE_PATH={certificates}/server.key\n"
    text = f"MQTT_BROKER_PORT={port}\nMQTT_USE_TLS=true\nMQTT_TLS_PORT={port if own else other}\n{files}"
    with node_of(tmp_path, text) as node:
        plain = [] if own else [f"mqtt://127.0.0.1:{port}"]
        assert node.urls == [*plain, f"mqtts://127.0.0.1:{port if own else other}"]
        line = ["mosquitto_pub", "-h", "localhost", "-p", str(port if own else other), "-t", "a", "-m", "x", "-q", "1",
                "--cafile", certificates / "ca.crt"]
        assert subprocess.run(line, capture_output=True, timeout=60).returncode == 0


GUIDE = "MQTT_BROKER_PORT=8883\nMQTT_USE_TLS=true\nMQTT_TLS_INSECURE={}\nMQTT_CA_CERTS=docker/ca.crt\n"


@pytest.mark.parametrize("insecure", ["true", "false"])
def test_settings_of_clients_stop_no_node(tmp_path, insecure):
    done = check(tmp_path, GUIDE.format(insecure))
    assert done.returncode == 0, done
    lines = [line for line in done.stdout.splitlines() if "MQTT_USE_TLS" in line]
    assert len(lines) == 1 and "a setting of clients" in lines[0] and "MQTT_BROKER_PORT" in lines[0], done.stdout
    assert "mqtt://127.0.0.1:1883" in done.stdout and "8883" not in done.stdout.replace(lines[0], ""), done.stdout


def test_clients_read_env_below_the_environment(tmp_path, certificates):
    url = ["tls.certificate=" + str(certificates / "server.crt"), "tls.key=" + str(certificates / "server.key")]
    with martlet_process.Node(listen=("mqtts://127.0.0.1:0",), settings=url) as node:
        place = tmp_path / "guide"
        (place / "docker/mosquitto/config").mkdir(parents=True)
        (place / "docker/mosquitto/config/certs").symlink_to(certificates)
        text = (DEPLOY / "tls-guide/.env.example").read_text().replace("=8883", f"={node.port('mqtts')}")
        (place / ".env").write_text(text)
        line = [martlet_process.binary(), "pub", "-t", "a", "-m", "x", "-q", "1"]

        def pub(**variables):
            return subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=60,
                                  env={**martlet_process.environment(), **variables})
        assert pub().returncode == 0
        assert pub(MQTT_BROKER_PORT="1").returncode != 0
        assert pub(MQTT_CA_CERTS="/nowhere").returncode != 0
        (place / ".env").chmod(0o666)
        # Another test may listen on the default port.
        told = pub(MQTT_BROKER_PORT="1")
        assert told.returncode != 0 and "is refused" in told.stderr and "the environment is ignored" in told.stderr, told


def test_a_node_without_its_broker_serves_http(tmp_path):
    with node_of(tmp_path, "MQTT_BROKER_ENABLED=false\n", http=True) as node:
        assert node.urls == []
        assert "no MQTT listeners: mqtt.enabled is false" in node.announced
        status = json.loads(get(f"{node.http_url}/broker/status")[2])
        assert status == {"status": "ok", "broker": {"running": False, "enabled": False, "clients": 0}}
    # What is published there waits for its clients.
    place = tmp_path / "data"
    with martlet_process.Node(data_dir=place) as node:
        line = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(node.port()), "-i", "s", "-c", "-q", "1", "-t", "a", "-E"]
        assert subprocess.run(line, timeout=60).returncode == 0
    with node_of(tmp_path, "MQTT_BROKER_ENABLED=false\n", http=True, data_dir=place) as node:
        sent = subprocess.run(["curl", "-sS", f"{node.http_url}/publish", "-d", '{"topic": "a", "payload": "x", "qos": 1}'],
                              capture_output=True, text=True, timeout=60)
        assert json.loads(sent.stdout)["status"] == "success", sent
    with martlet_process.Node(data_dir=place) as node:
        line = ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(node.port()), "-i", "s", "-c", "-q", "1", "-t", "a", "-C", "1"]
        assert subprocess.run([*line, "-W", "20"], capture_output=True, text=True, timeout=30).stdout == "x\n"


def test_listeners_that_are_named_stay_open_without_the_broker(tmp_path):
    (tmp_path / ".env").write_text("MQTT_BROKER_ENABLED=false\n")
    with martlet_process.Node(directory=tmp_path) as node:
        assert len(node.urls) == 1 and "MQTT_BROKER_ENABLED: not used, listeners are configured" in node.log()


@pytest.mark.parametrize("text, url", [
    ("REVERB_SERVER_HOST=0.0.0.0\nREVERB_SERVER_PORT=8081\nREVERB_HOST=panel.example\n", "ws://127.0.0.1:8081/app/k"),
    ("REVERB_SERVER_PORT=8081\n", "ws://127.0.0.1:8081/app/k"),
    ("REVERB_SERVER_HOST=panel.internal\n", "ws://panel.internal:8080/app/k"),
    ("REVERB_HOST=panel.example\n", "wss://panel.example:443/app/k"),
    ("REVERB_HOST=panel.example\nREVERB_SCHEME=http\nREVERB_PORT=80\n", "ws://panel.example:80/app/k"),
])
def test_the_panels_own_server_is_dialled(tmp_path, text, url):
    shown_url = url.replace("/app/k", "/app/***")
    values, _ = shown(tmp_path, f"REVERB_APP_KEY=k\n{text}")
    assert values["events.push_url"] in (url, shown_url)


def test_it_is_told_what_becomes_of_each_variable(tmp_path):
    text = ("MQTT_BROKER_PORT=1883\nWEBHOOK_URL=http://h\nMQTT_HIVEMQ_HOST=h\nMQTT_CLIENT_ID=c\nAPP_NAME=x\nHOST=h\n"
            "MARTLET_MQTT__MAXQOS=1\nMARTLET_LOG__LEVEL=info\nAPI_KEYS=\nMARTLET_REGISTRY__URL_FILE=/x\n")
    (tmp_path / ".env").write_text(text)
    clean = {name: value for name, value in martlet_process.environment().items() if name in ("PATH", "HOME")}
    done = subprocess.run([martlet_process.binary(), "config", "env", "--json"], cwd=tmp_path, capture_output=True, text=True,
                          env={**clean, "PORT": "5000"}, timeout=60)
    rows = {row["name"]: (row["state"], row["what"]) for row in json.loads(done.stdout)}
    assert {name: state for name, (state, _) in rows.items()} == {
        "MQTT_BROKER_PORT": "read", "WEBHOOK_URL": "ignored", "MQTT_HIVEMQ_HOST": "read", "MQTT_CLIENT_ID": "ignored",
        "APP_NAME": "unknown", "HOST": "read", "MARTLET_MQTT__MAXQOS": "unknown", "MARTLET_LOG__LEVEL": "read",
        "API_KEYS": "ignored", "MARTLET_REGISTRY__URL_FILE": "read", "PORT": "ignored",
    }
    assert "setting of clients" in rows["MQTT_CLIENT_ID"][1]
    assert "many programs use this name" in rows["PORT"][1] and "WEBHOOK_ENABLED is not true" in rows["WEBHOOK_URL"][1]
    table = subprocess.run([martlet_process.binary(), "config", "env"], cwd=tmp_path, capture_output=True, text=True,
                           env=clean, timeout=60).stdout
    assert re.search(rf"^unknown +APP_NAME +no such variable +{re.escape(str(tmp_path))}/.env line \d+$", table, re.M), table


@pytest.mark.parametrize("name, says", [
    ("RATE_LIMIT_PER_MINUTES", "no such setting; did you mean `RATE_LIMIT_PER_MINUTE`?"),
    ("RATE_LIMIT_PER_MINUTE", "is not used: many programs use this name"),
    ("RATE_LIMIT_BURST", "is not used: many programs use this name"),
    ("NATS_URL", "is not used: many programs use this name"),
])
def test_a_variable_without_effect_is_warned_of(tmp_path, name, says):
    clean = {name: value for name, value in martlet_process.environment().items() if name in ("PATH", "HOME")}
    done = subprocess.run([martlet_process.binary(), "config", "check"], cwd=tmp_path, capture_output=True, text=True,
                          env={**clean, name: "5"}, timeout=60)
    assert f"environment {name}" in done.stdout + done.stderr and says in done.stdout + done.stderr, done


def checked(place, text):
    """What `config check` says beside a .env with this text."""
    (place / ".env").write_text(text)
    return subprocess.run([martlet_process.binary(), "config", "check"], cwd=place, capture_output=True, text=True,
                          env=martlet_process.environment(), timeout=60)


def test_an_invalid_limit_of_iotflow_is_an_error_and_elsewhere_a_warning(tmp_path):
    for name in ("RATE_LIMIT_PER_MINUTE", "RATE_LIMIT_BURST"):
        for own in ("IOTFLOW_ADMIN_TOKEN=0123456789abcdef", "MAX_DEVICES_PER_USER=3"):
            done = checked(tmp_path, f"{name}=60/min\n{own}\n")
            assert done.returncode == 1 and '"60/min", expected a number of requests, 1000000 at most' in done.stderr, done
        done = checked(tmp_path, f"{name}=60/min\n")
        assert done.returncode == 0 and f"{name} is not used: " in done.stdout and '"60/min"' in done.stdout, done


def test_what_is_wrong_names_the_variable(tmp_path):
    at_line = "line 1 MQTT_BROKER_CREDENTIALS: auth.credentials: entry"
    for users, says in (("nocolon", f"{at_line} 1 is not user:password"), ("a:b,a:c", f"{at_line} 2: there are two"),
                        ("ann:b", "MQTT_BROKER_CREDENTIALS has passwords of fewer than 10")):
        done = checked(tmp_path, f"MQTT_BROKER_CREDENTIALS={users}\n")
        assert says in done.stdout + done.stderr and (done.returncode == 0) == (users == "ann:b"), done


def test_what_is_refused_by_a_limit_names_its_variable(tmp_path):
    (tmp_path / ".env").write_text("MAX_DEVICES_PER_USER=1\nMQTT_BROKER_CREDENTIALS=carl:long enough\n"
                                   "IOTFLOW_ADMIN_TOKEN=0123456789abcdef\nALLOWED_ORIGINS=https://panel.example\n")

    def run(*words, cwd=tmp_path):
        return subprocess.run([martlet_process.binary(), *words], cwd=cwd, capture_output=True, text=True,
                              timeout=60, env=martlet_process.environment())

    with martlet_process.Node(http=True, directory=tmp_path) as node:
        of_node = ("--data-dir", node.data_dir)
        full = "ann owns 1 devices, which is the maximum: MAX_DEVICES_PER_USER (registry.max_devices_per_user)"
        assert run("user", "add", "ann", "--generate", *of_node).returncode == 0
        assert run("device", "add", "d1", "--owner", "ann", *of_node).returncode == 0
        assert full in run("device", "add", "d2", "--owner", "ann", *of_node).stderr
        # A command that does not read the file keeps to the limit of the node.
        done = run("device", "add", "d2", "--owner", "ann", *of_node, cwd="/")
        assert done.returncode == 1 and "ann owns 1 devices, which is the maximum" in done.stderr, done
        url = f"{node.http_url}/api/v1"
        key = ("-H", "X-API-Key: 0123456789abcdef", "-H", "Content-Type: application/json")
        assert full in get(f"{url}/devices", *key, "-d", '{"id": "d2", "owner": "ann"}')[2]
        other = get(f"{url}/devices", *key, "-H", "Origin: https://other.example", "-d", '{"id": "d3"}')
        assert "ALLOWED_ORIGINS (http.origins) lists others" in other[2], other
        assert run("pub", "-p", str(node.port()), "-u", "carl", "-P", "wrong", "-t", "t", "-m", "x").returncode != 0
        why = node.why("carl")
        assert "according to MQTT_BROKER_CREDENTIALS" in json.dumps(why), why
        assert "MQTT_BROKER_CREDENTIALS (auth.credentials)" in why["remedy"], why
        # The commands need not have the variable.
        for action in ("passwd", "add"):
            done = martlet_process.run("user", action, "carl", "--generate", *of_node)
            place = "MQTT_BROKER_CREDENTIALS (auth.credentials), which decides: change the password there"
            assert done.returncode == 1 and f"carl is a user of {place}" in done.stderr, done


def test_a_url_of_a_webhook_that_is_not_enabled_is_warned_of(tmp_path):
    for text, is_warned in (("", True), ("WEBHOOK_ENABLED=false\n", False), ("WEBHOOK_ENABLED=true\n", False)):
        done = checked(tmp_path, f"{text}WEBHOOK_URL=http://h\n")
        says = "WEBHOOK_URL is not used: WEBHOOK_ENABLED is not true"
        assert done.returncode == 0 and (says in done.stdout) == is_warned, done



def test_the_flags_of_the_microservice(tmp_path):
    [port] = free_ports(1)
    options = ["--http-addr", f"127.0.0.1:{port}", "--log-level", "info", "--log-format", "text", "--log-file", "mqtt-service.log",
               "--file-logging", "true"]
    with martlet_process.Node(arguments=options, directory=tmp_path) as node:
        url = f"http://127.0.0.1:{port}"
        assert json.loads(get(f"{url}/broker/status")[2])["status"] == "ok"
        assert "ready" in get(f"{url}/logs")[2] and (tmp_path / "mqtt-service.log").is_file()
        status, kind, body = get(f"{url}/metrics")
        assert (status, kind) == (200, "application/json")
        Mosquitto(node).pub("-t", "a", "-m", "x", "-q", "1")
        # That it has gone may be noted a moment later.
        until(lambda: json.loads(get(f"{url}/metrics")[2])["connections"]["disconnections"] == 1, node.log)
        told = json.loads(get(f"{url}/metrics")[2])
        assert set(told) == {"messages", "subscriptions", "connections", "api", "latency", "last_updated"}
        assert set(told["messages"]) == {"published", "received", "failed"} and told["messages"]["published"] == 1
        assert told["connections"] == {"attempts": 1, "failures": 0, "successes": 1, "disconnections": 1}
        assert told["api"]["requests"] >= 3 and told["api"]["errors"] == 0
        assert all(re.fullmatch(r"[\d.]+(ns|µs|ms|s)", text) for text in told["latency"].values())
        # A message by HTTP counts as one by MQTT does.
        get(f"{url}/publish", "-d", '{"topic": "a", "payload": "x", "qos": 1}')
        assert json.loads(get(f"{url}/metrics")[2])["messages"]["published"] == 2
        prometheus = get(f"{url}/metrics", "-H", "Accept: text/plain;version=0.0.4")
        assert prometheus[1] == "text/plain" and "martlet_connections" in prometheus[2]


def test_flags_have_one_dash_too(tmp_path):
    values, tables = shown(tmp_path, "HTTP_SERVER_PORT=1\n", ())
    assert tables[0]["url"] == "0.0.0.0:1"
    values, tables = shown(tmp_path, "HTTP_SERVER_PORT=1\n", (), "--http-addr", ":2", "--file-logging", "true")
    assert [table["url"] for table in tables] == ["0.0.0.0:2"] and values["log.file"] == "mqtt-service.log"
    done = martlet_process.run("serve", "-http-addr", "nowhere", "--data-dir", str(tmp_path / "data"))
    assert done.returncode != 0 and '--http-addr is "nowhere", expected HOST:PORT' in done.stderr, done
