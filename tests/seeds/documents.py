"""Readers of the documents: they type its lines into a shell."""

import json
import os
import re
import subprocess

import martlet_process
from test_sinks import until


class Reader:
    """Types lines of a document into bash, in a directory of its own. Ports of the document stand for others."""

    def __init__(self, place, ports):
        self.place, self.ports = place, ports
        place.mkdir(exist_ok=True)

    def moved(self, text):
        for port, other in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(other), text)
        return text

    def environment(self):
        """The caller's, with the programs of the directory."""
        return {**martlet_process.environment(), "PATH": f"{self.place}:{os.environ['PATH']}"}

    def run(self, line, code=0, **options):
        """Types a line, and waits for its end."""
        done = subprocess.run(["bash", "-c", self.moved(line)], cwd=self.place, capture_output=True, text=True, timeout=60,
                              env=self.environment(), **options)
        assert done.returncode == code, (line, done)
        return done

    def typed(self, line, code=0):
        """What a line prints."""
        return self.run(line, code).stdout

    def subscribed(self, node, line):
        """A program of a line that subscribes, once it has."""
        before = subscriptions(node)
        process = subprocess.Popen(["stdbuf", "-oL", "bash", "-c", f"exec {self.moved(line)}"], cwd=self.place, text=True,
                                   env=self.environment(), stdout=subprocess.PIPE)
        until(lambda: subscriptions(node) > before, node.log)
        return process

    def link(self, name):
        """The name that the original program has."""
        (self.place / name).symlink_to(martlet_process.binary())


def subscriptions(node):
    done = martlet_process.run("status", "--json", "--data-dir", node.data_dir)
    return json.loads(done.stdout)["subscriptions"]


def shown(process):
    """The next line of a program, which is ended then."""
    line = process.stdout.readline().rstrip("\n")
    process.kill()
    process.wait()
    process.stdout.close()
    return line
