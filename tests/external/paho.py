#!/usr/bin/env python3
"""Runs Paho's interoperability tests (client_test.py, client_test5.py) against Martlet.

They know nothing of Martlet, so what they need is MQTT alone [MQTT-3.1.1/7.0.0-2].

PAHO_TESTING_SRC names a checkout of https://github.com/eclipse-paho/paho.mqtt.testing; nothing of
it is kept here. Each of its tests gets a process and a node of its own, several at a time. Exit
status 0: all pass but those that EXPLAINED names, and these fail; 1: not so; 2: it could not run.
Arguments select tests by a part of their name and print their output.
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import martlet_process  # noqa: E402

MODULES = ["client_test", "client_test5"]

# What the tests expect of the broker that comes with them.
SETTINGS = [
    "limits.receive_maximum=20",
    "limits.topic_alias_maximum=2",
    "limits.keep_alive_max_secs=60",
    "limits.packet_bytes=60000",
    "log.level=warn",
    # Some tests publish on one connection while a SUBSCRIBE on another is still on its way; only
    # with one thread is that a matter of which was sent first.
    "node.threads=1",
]

# Nobody may read the topic of test_subscribe_failure.
ACL = "topic deny test/nosubscribe\ntopic readwrite #\ntopic read $SYS/#\n"

# Test to why it fails.
EXPLAINED = {
    "client_test5.test_subscribe_failure": "section 3.9.3: 0x87, Not authorized, is a reason of SUBACK; the test knows 0x80 alone",
}

TIMEOUT_SECS = 120
PARALLEL = 6


def load(module_name):
    """The module of that name, configured as its own command line would."""
    module = __import__(module_name)
    prefix = "client_test5/" if module_name == "client_test5" else ""
    module.topic_prefix = prefix
    module.topics = [
        prefix + topic for topic in ("TopicA", "TopicA/B", "Topic/C", "TopicA/C", "/TopicA")
    ]
    module.wildtopics = [
        prefix + topic for topic in ("TopicA/+", "+/C", "#", "/#", "/+", "+/+", "TopicA/#")
    ]
    module.nosubscribe_topics = ("test/nosubscribe",)
    module.host = "127.0.0.1"
    return module


def tests():
    for module_name in MODULES:
        for name in unittest.defaultTestLoader.getTestCaseNames(load(module_name).Test):
            yield f"{module_name}.{name}"


def run_one(test, port):
    """In a process of its own: one test against the node at `port`."""
    module_name, name = test.split(".")
    module = load(module_name)
    module.port = port
    # It would take the prefix away again.
    module.setData = lambda: None
    suite = unittest.TestSuite([module.Test(name)])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun == 1 else 1


def run_apart(test):
    with tempfile.NamedTemporaryFile("w", suffix=".acl") as acl:
        acl.write(ACL)
        acl.flush()
        settings = [*SETTINGS, f"auth.acl_file={acl.name}", "acl.subscribe=refuse", "mqtt.allow_anonymous=true"]
        return run_at(test, settings)


def run_at(test, settings):
    with martlet_process.Node(settings=settings) as node:
        command = [sys.executable, __file__, "--one", test, str(node.port())]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT_SECS,
            )
            output = done.stdout.decode(errors="replace")
            passed = done.returncode == 0
        except subprocess.TimeoutExpired as expired:
            output = (expired.stdout or b"").decode(errors="replace") + "\ntook too long"
            passed = False
        if node.process.poll() is not None:
            output += f"\nthe node ended:\n{node.log()}"
            passed = False
    return passed, output


def run_all(selected):
    chosen = [
        test for test in tests() if not selected or any(part in test for part in selected)
    ]
    bad = 0
    with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
        for test, (passed, output) in zip(chosen, pool.map(run_apart, chosen)):
            why = EXPLAINED.get(test)
            as_expected = passed != bool(why)
            bad += not as_expected
            word = "passed" if passed else "failed"
            print(f"{test}: {word}" + (f" ({why})" if why else ""))
            if selected or not as_expected:
                print("    " + output.replace("\n", "\n    "))
    print(f"{len(chosen)} tests, {bad} not as they should be")
    return 1 if bad or not chosen else 0


def main():
    source = os.environ.get("PAHO_TESTING_SRC")
    if not source or not (pathlib.Path(source) / "interoperability/client_test5.py").is_file():
        print("PAHO_TESTING_SRC must name a checkout of paho.mqtt.testing", file=sys.stderr)
        return 2
    sys.path.insert(0, str(pathlib.Path(source) / "interoperability"))
    if sys.argv[1:2] == ["--one"]:
        return run_one(sys.argv[2], int(sys.argv[3]))
    return run_all(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
