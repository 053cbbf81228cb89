"""Many simulated devices in one thread: each has an MQTT 3.1.1 connection and answers commands of firmware."""

import asyncio
import json
import struct
import threading

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK = 1, 2, 3, 4, 8, 9
QOS_1 = 0b0010
AGAIN_SECS = 0.2


def text(value):
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def packet(kind, flags, body):
    length, left = b"", len(body)
    while True:
        left, digit = left >> 7, left & 0x7F
        length += bytes([digit | (0x80 if left else 0)])
        if not left:
            return bytes([kind << 4 | flags]) + length + body


async def read_packet(reader):
    first = (await reader.readexactly(1))[0]
    length = shift = 0
    while True:
        digit = (await reader.readexactly(1))[0]
        length |= (digit & 0x7F) << shift
        shift += 7
        if not digit & 0x80:
            return first >> 4, first & 0x0F, await reader.readexactly(length)


class Device:
    """A device. `behaviour` says what it does with a command: succeed, fail or say nothing."""

    def __init__(self, fleet, made, behaviour):
        self.fleet, self.id, self.behaviour = fleet, made["id"], behaviour
        self.user_name, self.secret = made["user_name"], made["secret"]
        self.commands = []
        # Answers that the node has not acknowledged, by their Packet Identifiers.
        self.unacknowledged, self.last = {}, 0
        self.writer = None

    async def run(self):
        while True:
            try:
                await self.live()
            except (OSError, asyncio.IncompleteReadError):
                pass
            self.writer = None
            await asyncio.sleep(AGAIN_SECS)

    async def live(self):
        async with self.fleet.opening:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.fleet.port)
            login = text("MQTT") + bytes([4, 0b1100_0010]) + struct.pack(">H", 0)
            login += text(self.id) + text(self.user_name) + text(self.secret)
            writer.write(packet(CONNECT, 0, login))
            kind, _, body = await read_packet(reader)
            assert (kind, body[1]) == (CONNACK, 0), (self.id, kind, body)
            writer.write(packet(SUBSCRIBE, QOS_1, struct.pack(">H", 65_000) + text(f"d/{self.id}/commands/firmware") + b"\1"))
        self.writer = writer
        for number in list(self.unacknowledged):
            self.send(number)
        while True:
            kind, flags, body = await read_packet(reader)
            if kind == SUBACK:
                self.fleet.subscribed.add(self.id)
            elif kind == PUBACK:
                self.unacknowledged.pop(struct.unpack(">H", body[:2])[0], None)
            elif kind == PUBLISH:
                self.received(flags, body)

    def received(self, flags, body):
        (length,) = struct.unpack(">H", body[:2])
        at = 2 + length
        if flags & 0b0110:
            self.writer.write(packet(PUBACK, 0, body[at:at + 2]))
            at += 2
        command = json.loads(body[at:])
        self.commands.append(command)
        answers = {
            "succeed": [{"status": "progress", "progress": 50}, {"status": "succeeded"}],
            "fail": [{"status": "failed", "result": "no space"}],
            "say nothing": [],
        }
        for answer in answers[self.behaviour]:
            self.answer({"command_id": command["id"], **answer})

    def answer(self, body):
        self.last = self.last % 60_000 + 1
        self.unacknowledged[self.last] = json.dumps(body).encode()
        self.send(self.last)

    def send(self, number):
        if self.writer:
            body = text(f"d/{self.id}/status/command") + struct.pack(">H", number) + self.unacknowledged[number]
            self.writer.write(packet(PUBLISH, QOS_1, body))


class Fleet:
    """Devices that connect again whenever they lose their connection, until the fleet is closed."""

    def __init__(self, port, devices):
        self.port, self.subscribed = port, set()
        self.loop = asyncio.new_event_loop()
        # Not all at once: the kernel's queue of new connections is short.
        self.opening = asyncio.Semaphore(50)
        self.devices = {made["id"]: Device(self, made, behaviour) for made, behaviour in devices}
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.tasks = [self.loop.create_task(device.run()) for device in self.devices.values()]
        self.loop.run_forever()

    def close(self):
        def stop():
            for task in self.tasks:
                task.cancel()
            self.loop.call_later(0.1, self.loop.stop)

        self.loop.call_soon_threadsafe(stop)
        self.thread.join()
        self.loop.close()
