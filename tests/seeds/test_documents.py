"""The documents of the systems from top to bottom: one test for each, with every line that a reader types, as it is
printed. Ports are others. What starts or builds the original program is left out. The document of IoTFlow has its test
in test_mqtt_manage.py.
"""

import json

import martlet_process
import nats_process
from documents import Reader, shown
from programs import Output
from server_process import free_ports
from test_1_microservice import CONFIGURATION, PUBLISH
from test_5_tls_guide import Guide
from test_hook import HookServer
from test_sinks import until


def test_document_1_the_microservice(tmp_path):
    mqtt, http = free_ports(2)
    reader = Reader(tmp_path / "reader", {1883: mqtt, 8080: http})
    reader.link("mqtt")
    (reader.place / ".env").write_text(CONFIGURATION.replace("=PORT ", f"={mqtt} ") + f"HTTP_SERVER_PORT={http}\n")
    with martlet_process.Node(listen=(), http=None, directory=reader.place) as node:
        # Using the MQTT CLI.
        sub = reader.subscribed(node, 'mqtt sub -h localhost -p 1883 -t "test/topic"')
        reader.typed('mqtt pub -h localhost -p 1883 -t "test/topic" -m "Hello, world!"')
        assert shown(sub) == "Hello, world!"
        # Using Mosquitto's clients.
        sub = reader.subscribed(node, 'mosquitto_sub -h localhost -p 1883 -t "test/topic"')
        reader.typed('mosquitto_pub -h localhost -p 1883 -t "test/topic" -m "Hello, world!"')
        assert shown(sub) == "Hello, world!"
        # Using the microservice's API.
        sub = reader.subscribed(node, 'mosquitto_sub -h localhost -p 1883 -t "test/topic"')
        assert json.loads(reader.typed(PUBLISH))["status"] == "success"
        assert shown(sub) == "Hello, world!"
        # Checking broker status.
        until(lambda: json.loads(reader.typed("curl -X GET http://localhost:8080/broker/status")) == {
            "status": "ok", "broker": {"running": True, "enabled": True, "clients": 0}}, node.log)
        # Logs.
        assert "ready" in reader.typed("curl -X GET http://localhost:8080/logs")


def test_document_2_the_broker_of_the_panel(tmp_path):
    mqtt, ws, http = free_ports(3)
    reader = Reader(tmp_path / "reader", {})
    reader.link("mqtt-panel-broker")
    panel = HookServer()
    # The ports of its program are other ones here, and the panel is not on this machine's port 80.
    options = ["-tcp", f":{mqtt}", "-ws", f":{ws}", "-info", f":{http}", "-auth-url", panel.url]
    try:
        with martlet_process.Node(command=["./mqtt-panel-broker"], listen=(), http=None, arguments=options,
                                  directory=reader.place) as node:
            login = f"mosquitto_pub -h localhost -p {mqtt} -i client-1 -u key -P"
            # 200, and then without another question: its drawing of the flow.
            reader.typed(f"{login} secret -t a -m x -q 1")
            assert panel.asked == [("/api/mqtt/auth", "application/json",
                                    {"client_id": "client-1", "api_key": "key", "api_secret": "secret"})]
            reader.typed(f"{login} secret -t a -m x -q 2")
            assert len(panel.asked) == 1
            # 401 and 422.
            for panel.status in (401, 422):
                reader.typed(f"{login} wrong -t a -m x -q 1", code=4)
            assert json.loads(reader.typed(f"curl -sS http://localhost:{http}/"))["clients_total"] >= 0, node.log()
    finally:
        panel.close()


def test_document_4_service_mqtt(tmp_path):
    mqtt, http = free_ports(2)
    reader = Reader(tmp_path / "reader", {1883: mqtt, 9091: http})
    nats = nats_process.Server()
    variables = {"LISTEN_ADDR": f":{http}", "NATS_URL": nats.url}
    listen = [f"mqtt://127.0.0.1:{mqtt}"]
    try:
        with martlet_process.Node(listen=listen, http=None, variables=variables.items(), directory=reader.place) as node:
            told = reader.typed("""curl -X POST http://localhost:9091/devices -d '{"type":"test-device"}'""")
            device = json.loads(told)
            assert list(device) == ["id", "type", "mqtt_user", "mqtt_password", "created_at"]
            assert device["mqtt_user"] == device["id"] and device["type"] == "test-device"
            # Without the container in which the document starts the client.
            reader.typed("""mosquitto_pub \\
                -h localhost \\
                -p 1883 \\
                -u "<YOUR_USERNAME>" \\
                -P "<YOUR_PASSWORD>" \\
                -t "raw.<YOUR_USERNAME>" \\
                -m "Hello from my new device!"
            """.replace("<YOUR_USERNAME>", device["mqtt_user"]).replace("<YOUR_PASSWORD>", device["mqtt_password"]))
            # You should see the message being forwarded to NATS in the logs.
            until(lambda: "forwarded a message to NATS" in node.log(), node.log)
            assert f"raw.{device['mqtt_user']}" in node.log()
            [(subject, _, payload)] = nats_process.Client(nats).all("MARTLET_service-mqtt")
            assert (subject, payload) == (f"raw.{device['mqtt_user']}", b"Hello from my new device!")
            assert "Swagger" in reader.typed("curl -sS http://localhost:9091/docs/index.html")
    finally:
        nats.close()


# What the guide repeats in each of its lines.
TLS = "-h localhost -p 8883 --cafile docker/mosquitto/config/certs/ca.crt"


def test_document_5_the_guide_to_tls(tmp_path):
    # Certificates, the configuration, .env, two users with mosquitto_passwd, and the start.
    guide = Guide(tmp_path)
    try:
        ca = str(guide.mosquitto / "config/certs/ca.crt")
        sub = Output("mosquitto_sub", ["-h", "localhost", "-p", str(guide.port), "--cafile", ca, "-u", "collector_user",
                                       "-P", "other_password", "-t", "device/data/+", "-v", "-C", "1", "-W", "20", "-d"])
        sub.wait_for("Subscribed (mid:")
        # Its own allow_anonymous false refuses the line without a login.
        guide.typed(f'mosquitto_pub {TLS} -t test/topic -m "Hello TLS"', code=5)
        guide.typed(f'mosquitto_pub {TLS} -u device_user -P your_password -t test/topic -m "Hello TLS with Auth"')
        guide.typed(f"mosquitto_pub {TLS} -u device_user -P your_password -t device/data/7 -m awake -q 1")
        lines, status = sub.messages()
        assert (lines[-1], status) == ("device/data/7 awake", 0)
        # Troubleshooting: bad user name or password.
        told = guide.typed(f"mosquitto_pub {TLS} -u device_user -P wrong -t test/topic -m x", code=4)
        assert "bad user name or password" in told.lower()
    finally:
        guide.node.close()
