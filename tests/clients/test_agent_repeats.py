"""What the agent sends again after a kill is marked as that: each line, whatever the broker says of the session."""

import contextlib
import queue
import socket
import threading

import pytest

from martlet_process import receive_exactly
from test_agent import start_agent  # noqa: F401

CONNECT, PUBLISH, DUP, DEADLINE_SECS = 1, 3, 8, 60


class SilentBroker:
    """Takes connections and messages, and acknowledges no message: which of them were marked, by their last line."""

    def __init__(self, session_present):
        self.session_present, self.got = session_present, queue.Queue()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            for first in (True, False):
                wire, _ = self.listener.accept()
                with contextlib.suppress(AssertionError, OSError), wire:
                    self.serve(wire, bytes([0 if first else self.session_present]))

    def serve(self, wire, acknowledge_flags):
        while True:
            kind, length, shift = receive_exactly(wire, 1)[0], 0, 0
            while True:
                byte = receive_exactly(wire, 1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:
                    break
            body = receive_exactly(wire, length)
            if kind >> 4 == CONNECT:
                answer = acknowledge_flags + (b"\0\0" if body[6] == 5 else b"\0")
                wire.sendall(bytes([0x20, len(answer)]) + answer)
            elif kind >> 4 == PUBLISH:
                self.got.put((body[-1:], bool(kind & DUP)))

    def receive(self, count):
        return [self.got.get(timeout=DEADLINE_SECS) for _ in range(count)]


@pytest.mark.parametrize("session_present", [0, 1])
def test_each_line_that_is_sent_again_is_marked(start_agent, session_present):  # noqa: F811
    broker = SilentBroker(session_present)
    agent = start_agent("--topic", "device/data/7", port=broker.port)
    lines = list("abcdefgh")
    agent.write("".join(f"{line}\n" for line in lines))
    sent = [(line.encode(), False) for line in lines]
    assert broker.receive(len(lines)) == sent
    agent.kill()
    agent.start()
    assert broker.receive(len(lines)) == [(line, True) for line, _ in sent]
    broker.listener.close()
