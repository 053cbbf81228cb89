"""Eclipse Paho's Python client with calls that wait for their answer.

Every call returns only when the broker has answered, so that tests need no sleeps.
"""

import queue
import socket
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

DEADLINE_SECS = 60

V311, V5 = mqtt.MQTTv311, mqtt.MQTTv5


def properties(packet, **values):
    """Properties of a packet: properties("PUBLISH", MessageExpiryInterval=5)."""
    made = Properties(getattr(PacketTypes, packet))
    for key, value in values.items():
        setattr(made, key, value)
    return made


class Client:
    """A connection of Paho's client. Use it in a `with` statement: it connects at its begin."""

    def __init__(self, node, client_id, version=V5, transport="tcp", clean=True, port=None, **connect):
        self.messages = queue.Queue()
        self.connack = None
        self.connack_properties = None
        self.session_present = None
        self.end_reason = None
        self.ended_because = ""
        self.version = version
        self._node = node
        self._transport = transport
        self._port = port
        self._clean = clean
        self._connect = connect
        self._answered_or_ended = threading.Event()
        self._ended = threading.Event()
        self._answers = {}
        self._answered = threading.Condition()
        options = {} if version == V5 else {"clean_session": clean}
        self.client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=version,
            transport=transport,
            reconnect_on_failure=False,
            **options,
        )
        self.client.on_connect = self._on_connect
        self.client.on_disconnect = self._on_disconnect
        self.client.on_message = lambda _client, _data, message: self.messages.put(message)
        self.client.on_subscribe = self._on_answer
        self.client.on_unsubscribe = self._on_answer
        if transport == "websockets":
            self.client.ws_set_options(path="/mqtt")

    def will(self, topic, payload, **options):
        """Sets the Will, before the connection."""
        self.client.will_set(topic, payload, **options)
        return self

    def credentials(self, user_name, password):
        """Sets user name and password, before the connection."""
        self.client.username_pw_set(user_name, password)
        return self

    def manual_acknowledgements(self):
        """QoS 1 and 2 messages are not acknowledged by themselves."""
        self.client.manual_ack_set(True)
        return self

    def __enter__(self):
        self.start()
        return self

    def start(self):
        port = self._port or self._node.port("ws" if self._transport == "websockets" else "mqtt")
        options = dict(self._connect)
        if self.version == V5:
            options["clean_start"] = self._clean
        self.client.connect("127.0.0.1", port, **options)
        self.client.loop_start()
        assert self._answered_or_ended.wait(DEADLINE_SECS) and self.connack is not None, "no CONNACK came"
        return self

    def __exit__(self, *_):
        self.disconnect()

    def disconnect(self, **options):
        """DISCONNECT, and the end of the network loop."""
        self.client.disconnect(**options)
        self.client.loop_stop()

    def drop(self):
        """The connection is lost without DISCONNECT."""
        self.client.socket().shutdown(socket.SHUT_RDWR)
        self.wait_for_end()
        self.client.loop_stop()

    def wait_for_end(self):
        """Waits for the broker to end the connection; gives its reason."""
        assert self._ended.wait(DEADLINE_SECS), "the connection was not ended"
        return self.end_reason

    def subscribe(self, topic, qos=0, properties=None, **options):
        """The SUBACK's reason codes."""
        if self.version == V5:
            options = SubscribeOptions(qos=qos, **options)
            result, packet_id = self.client.subscribe(
                topic, options=options, properties=properties
            )
        else:
            result, packet_id = self.client.subscribe(topic, qos)
        assert result == mqtt.MQTT_ERR_SUCCESS
        return self._answer(packet_id)

    def unsubscribe(self, topic):
        """The UNSUBACK's reason codes."""
        result, packet_id = self.client.unsubscribe(topic)
        assert result == mqtt.MQTT_ERR_SUCCESS
        return self._answer(packet_id)

    def publish(self, topic, payload, qos=1, **options):
        """Returns when the message is acknowledged (QoS 0: written)."""
        sent = self.client.publish(topic, payload, qos, **options)
        deadline = time.monotonic() + DEADLINE_SECS
        # A connection that has ended does not come again.
        while not (sent.is_published() or self._ended.is_set()) and time.monotonic() < deadline:
            sent.wait_for_publish(0.2)
        assert sent.is_published(), "the message was not acknowledged"

    def acknowledged(self, topic, **options):
        """Whether a message with QoS 1 was taken: the reason code of its PUBACK."""
        came = queue.Queue()
        self.client.on_publish = lambda _client, _data, _id, reason, _properties: came.put(reason)
        self.client.publish(topic, "x", 1, **options)
        return not came.get(timeout=DEADLINE_SECS).is_failure

    def receive(self):
        """The next message."""
        try:
            return self.messages.get(timeout=DEADLINE_SECS)
        except queue.Empty:
            raise AssertionError("no message came") from None

    def receive_payload(self):
        return self.receive().payload.decode()

    def expect_no_message(self):
        """A message to itself comes next, so nothing was before it."""
        fence = f"fence/{id(self)}"
        self.subscribe(fence, qos=1)
        self.publish(fence, "fence")
        message = self.receive()
        assert message.topic == fence, f"got {message.payload!r} on {message.topic}"

    def _on_connect(self, _client, _data, flags, reason, answered):
        self.connack = reason
        self.connack_properties = answered
        self.session_present = flags.session_present
        self._answered_or_ended.set()

    def _on_disconnect(self, _client, _data, _flags, reason, answered):
        self.end_reason = reason
        self.ended_because = getattr(answered, "ReasonString", "")
        self._ended.set()
        self._answered_or_ended.set()

    def _on_answer(self, _client, _data, packet_id, reasons, _properties):
        with self._answered:
            self._answers[packet_id] = reasons
            self._answered.notify_all()

    def _answer(self, packet_id):
        with self._answered:
            came = self._answered.wait_for(lambda: packet_id in self._answers, DEADLINE_SECS)
            assert came, "no acknowledgement came"
            return [reason.value for reason in self._answers.pop(packet_id)]
