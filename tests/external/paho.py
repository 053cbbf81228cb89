#!/usr/bin/env python3
"""Runs Paho's interoperability tests (client_test.py, client_test5.py) against Martlet.

They know nothing of Martlet, so what they need is MQTT alone [MQTT-3.1.1/7.0.0-2].

PAHO_TESTING_SRC names a checkout of https://github.com/eclipse-paho/paho.mqtt.testing; nothing of
it is kept here. Each of its tests gets a process and a node of its own, several at a time. Exit
status 0: all pass but those that EXPLAINED names, and these fail; 1: not so; 2: it could not run.
ALTERED names what of a test is read otherwise, because the specification says otherwise.
Arguments select tests by a part of their name and print their output.
"""

import concurrent.futures
import importlib.util
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

# test_subscribe_failure alone runs with these: nobody may read its topic.
ACL = "topic deny test/nosubscribe\ntopic readwrite #\n"
REFUSING = "test_subscribe_failure"

# Test to why it fails.
EXPLAINED = {}

# Test to where its source says something else than the specification: file, text, text instead, and why.
ALTERED = {
    "client_test5.test_subscribe_failure": [
        (
            "mqtt/formats/MQTTV5/MQTTV5.py",
            "reasonCode.value in [0, 1, 2, 0x80]",
            "reasonCode.value in [0, 1, 2, 0x80, 0x87]",
            "section 3.9.3: SUBACK has eleven more reasons than the test's decoder knows",
        ),
        (
            "client_test5.py",
            "callback.subscribeds[0][1][0].value == 0x80",
            "callback.subscribeds[0][1][0].value == 0x87",
            "section 3.9.3: 0x87 is Not authorized; Mosquitto answers it too",
        ),
    ],
}

# Test to why it fails at times: it is run again.
RACES = {
    "client_test5.test_client_topic_alias": "its client reads nothing once it disconnects, be it the PUBACK that it then misses",
}
TRIES = 3

TIMEOUT_SECS = 120
PARALLEL = 6


def alter(test):
    """Loads the modules of a test that ALTERED names, with its texts instead of their own."""
    for file, own, instead, _ in ALTERED.get(test, []):
        path = pathlib.Path(os.environ["PAHO_TESTING_SRC"]) / "interoperability" / file
        source = path.read_text(encoding="utf-8")
        assert source.count(own) == 1, f"{file} has changed: {own}"
        name = file.removesuffix(".py").replace("/", ".")
        module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path))
        sys.modules[name] = module
        exec(compile(source.replace(own, instead), path, "exec"), module.__dict__)


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
    alter(test)
    module = load(module_name)
    module.port = port
    # It would take the prefix away again.
    module.setData = lambda: None
    suite = unittest.TestSuite([module.Test(name)])
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun == 1 else 1


def run_apart(test):
    for _ in range(TRIES if test in RACES else 1):
        passed, output = run_with_its_settings(test)
        if passed:
            break
    return passed, output


def run_with_its_settings(test):
    if not test.endswith(REFUSING):
        return run_at(test, [*SETTINGS, "mqtt.allow_anonymous=true"])
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
            reasons = [why] if why else [f"altered: {one[3]}" for one in ALTERED.get(test, [])]
            print(f"{test}: {word}" + (f" ({'; '.join(reasons)})" if reasons else ""))
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
