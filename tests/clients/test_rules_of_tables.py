"""Rules in the tables: `explain` says what the node does by them, `lint` finds faults, and single ones are changed."""

import json
import random
import subprocess

import martlet_process
from paho_client import Client
from test_http_api import KEYS
from test_rules import call
from test_registry import DEADLINE_SECS, device, is_permitted, place, start  # noqa: F401


def test_explain_says_what_the_node_does(start, place):
    place.run("role", "add", "reader", "--rule", "topic deny a/secret", "--rule", "topic read a/#",
              "--rule", "pattern write own/%u/#")
    place.user("ann", "--role", "reader")
    secret = place.device("d1")
    cases = [("ann", "publish", "own/ann/x"), ("ann", "publish", "own/bob/x"), ("ann", "publish", "a/1"),
             ("ann", "subscribe", "a/#"), ("ann", "subscribe", "#"), ("ann", "subscribe", "a/secret"),
             ("d1", "publish", "d/d1/up"), ("d1", "publish", "d/d2/up"),
             ("d1", "publish", "iotflow/devices/d1/telemetry"), ("d1", "subscribe", "d/d1/#"),
             ("d1", "subscribe", "#")]
    node = start()
    passwords = {"ann": "secret", "d1": secret}
    for user, action, topic in cases:
        password = passwords[user]
        if action == "subscribe":
            with Client(node, user).credentials(user, password) as client:
                permitted = client.subscribe(topic)[0] < 0x80
        else:
            permitted = is_permitted(node, topic, "-u", user, "-i", user, "-P", password)
        said = place.run("acl", "explain", user, action, topic, code=0 if permitted else 1)
        assert said.startswith("permitted" if permitted else "refused"), (user, action, topic, said)
    assert "role reader rule 1: a/secret" in place.run("acl", "explain", "ann", "receive", "a/secret", code=1)
    place.run("device", "set", "d1", "--status", "inactive")
    assert "device d1 is inactive" in place.run("acl", "explain", "d1", "publish", "d/d1/up", code=3)
    place.run("user", "set", "ann", "--disable")
    for running in [True, False]:
        assert "user ann is disabled" in place.run("acl", "explain", "ann", "receive", "a/1", code=3)
        assert "no user of that name" in place.run("acl", "explain", "carol", "receive", "a/1", code=3)
        assert "without credentials" in place.run("acl", "explain", "-", "receive", "a/1", code=3)
        for action, topic in [("publish", "a/#"), ("receive", "+"), ("publish", ""), ("subscribe", "a/#/b")]:
            assert " is not a valid Topic " in place.run("acl", "explain", "ann", action, topic, code=2)
        asked = json.loads(place.run("acl", "explain", "carol", "receive", "a/1", "--json", code=3))["asked"]
        assert asked == "the running node" if running else "no node runs" in asked
        node.close()


def test_explain_agrees_with_the_node_whatever_the_rules_are(start, place):
    """Random rules, as many as decide something, and random topics: the same seed each time."""
    chance = random.Random(7)

    def filters(levels):
        parts = [chance.choice(levels) for _ in range(chance.randint(1, 3))]
        return "/".join(parts + chance.choice([[], [], ["#"]]))

    for number in range(4):
        rules = []
        for _ in range(8):
            access = chance.choice(["read", "write", "readwrite", "deny"])
            rules += ["--rule", f"pattern {access} {filters(['a', 'b', '+', '%c', '%u'])}"]
        place.run("role", "add", f"role-{number}", *rules)
        place.user(f"u{number}", "--role", f"role-{number}")
    node = start()
    seen = set()
    for number in range(4):
        user, client_id = f"u{number}", f"c{number}"
        names = ["a", "b", user, client_id]
        with Client(node, client_id).credentials(user, "secret") as client:
            for _ in range(12):
                action = chance.choice(["publish", "subscribe"])
                topic = "/".join(chance.choice(names) for _ in range(chance.randint(1, 3)))
                if action == "subscribe":
                    topic = filters([*names, "+"])
                    permitted = client.subscribe(topic)[0] < 0x80
                else:
                    permitted = client.acknowledged(topic)
                said = place.run("acl", "explain", client_id, action, topic, code=0 if permitted else 1)
                assert f"client {client_id} has, which is connected as user {user}" in said
                said = place.run("acl", "explain", user, action, topic, "--client-id", client_id,
                                 code=0 if permitted else 1)
                seen.add((action, permitted))
    assert len(seen) == 4, "the rules permit everything, or nothing"


def test_lint_looks_at_roles_and_says_how_much_it_has_seen(start, place):
    place.run("role", "add", "writer", "--rule", "topic readwrite d/#", "--rule", "topic read d/x",
              "--rule", "topic read news")
    place.run("device", "type", "add", "meter", "--rule", "pattern readwrite m/+/#")
    place.user("ann", "--role", "writer")
    meters = {name: place.device(name, "--type", "meter") for name in ["m1", "m2"]}
    assert place.run("acl", "lint", code=1) == (
        "role writer rule 2: `topic read d/x` never decides: role writer rule 1 (`topic readwrite d/#`) covers all of "
        "it; remove one of them\n")
    node = start()
    lint = [martlet_process.binary(), "acl", "lint", "--traffic", "--data-dir", str(place.path)]

    def linted():
        done = subprocess.run(lint, capture_output=True, text=True, env=martlet_process.environment(), timeout=60)
        return done.stdout.splitlines()[1:], done.stderr

    with Client(node, "c1").credentials("ann", "secret") as ann:
        ann.publish("d/ann/a", "x")
        wider, seen = linted()
        assert wider == [] and ": 1 uses of 1 topics by 1 clients" in seen, seen
        assert "too little to judge: role writer rule 1\n" in seen, seen
        assert "not used so far" in seen and "role writer rule 3, device type meter rule 1\n" in seen, seen
        ann.publish("d/ann/b", "x")
        ann.publish("d/ann/c", "x")
        wider, seen = linted()
        assert wider == [
            "role writer rule 1: `topic readwrite d/#` is wider than the traffic seen: `pattern write d/%u/+` would do "
            "for its 3 uses"], (wider, seen)
        with device(node, "m1", meters["m1"]) as one, device(node, "m2", meters["m2"]) as other:
            for name, meter in [("m1", one), ("m2", other)]:
                meter.publish(f"m/{name}/up", "x")
                meter.publish(f"m/{name}/down", "x")
            wider, seen = linted()
    assert wider[1:] == [
        "device type meter rule 1: `topic readwrite m/+/#` is wider than the traffic seen: `pattern write m/%c/+` "
        "would do for its 4 uses"], (wider, seen)


def test_lint_looks_at_groups_and_at_stars(start_node, place):
    place.run("role", "add", "writer", "--rule", "topic write d/*/up")
    place.run("role", "add", "reader", "--rule", "topic readwrite a/#", "--rule", "topic deny a/b")
    secret = place.device("d1", "--type", "tls-guide")
    node = start_node(data_dir=place.path, http=True, variables=KEYS)
    group = call(node, "POST", "/groups", {"name": "hall"}, 201)["id"]
    # What a group forbids applies first, wherever it stands: the last rule decides.
    rules = ["topic read news/#", "topic read news/hall", "topic deny device/data/*", "topic readwrite hall/#", "topic deny hall/door"]
    problem = call(node, "PUT", f"/groups/{group}/rules", {"rules": [*rules, "topic deny $share/g/hall/door"]}, 422)
    assert problem["errors"][0]["pointer"] == "/rules/5" and "use the filter hall/door" in problem["detail"], problem
    call(node, "PUT", f"/groups/{group}/rules", {"rules": rules})
    star = "* is an ordinary character in a Topic Filter; write + for one level, or # for all further levels"
    for running in (True, False):
        found = place.run("acl", "lint", code=1).splitlines()
        assert [line for line in found if star in line] == [
            f"role writer rule 1: `topic write d/*/up`: {star}",
            f"group hall rule 3: `topic deny device/data/*`: {star}"]
        [covered] = [line for line in found if "never decides" in line]
        assert "group hall rule 2: `topic read news/hall` never decides: group hall rule 1" in covered, found
        late = "role reader rule 2: `topic deny a/b` does not forbid what role reader rule 1 (`topic readwrite a/#`) permits"
        assert [line for line in found if "does not forbid" in line and line.startswith(late)], found
        if running:
            expect_deny_to_decide(node, secret, group)
            node.close()


def expect_deny_to_decide(node, secret, group):
    """What a group forbids is forbidden, wherever it stands among the rules of the group and the type."""
    with device(node, "d1", secret) as client:
        assert client.acknowledged("device/data/d1")
    call(node, "POST", f"/groups/{group}/devices", {"devices": ["d1"]})
    rules = ["topic read news/#", "topic deny news/secret", "topic deny device/data/#"]
    before = call(node, "GET", f"/groups/{group}/rules")
    call(node, "PUT", f"/groups/{group}/rules", {"rules": rules})
    with device(node, "d1", secret) as client:
        assert not client.acknowledged("device/data/d1")
        assert client.subscribe("news/hall") == [0] and client.subscribe("news/secret")[0] >= 0x80
    call(node, "PUT", f"/groups/{group}/rules", before)


def test_one_rule_is_added_and_removed(place):
    place.run("role", "add", "r", "--rule", "topic read a/#", "--rule", "topic write b/#")

    def rules():
        return json.loads(place.run("role", "rules", "r", "--json"))["rules"]

    place.run("role", "allow", "r", "read c/#")
    place.run("role", "deny", "r", "a/secret")
    assert rules() == ["topic deny a/secret", "topic read c/#", "topic read a/#", "topic write b/#"]
    place.run("role", "deny", "r", "topic deny a/secret")
    place.run("role", "allow", "r", "topic write b/#")
    assert rules() == ["topic write b/#", "topic deny a/secret", "topic read c/#", "topic read a/#"]
    place.run("role", "remove", "r", "read c/#")
    place.run("role", "remove", "r", "deny a/secret")
    assert rules() == ["topic write b/#", "topic read a/#"]
    said = place.run("role", "remove", "r", "read c/#", code=1)
    assert 'has no rule "topic read c/#"' in said and "topic read a/#" in said
    place.run("role", "allow", "r", "deny x", code=1)
    place.run("role", "deny", "r", "read x", code=1)
    place.run("role", "allow", "r", "", code=1)
    assert "cannot be changed" in place.run("role", "allow", "user", "x", code=1)
    assert "no role none-such" in place.run("role", "allow", "none-such", "x", code=1)
    assert rules() == ["topic write b/#", "topic read a/#"]
    assert "replace all rules" in place.run("role", "rules", "r", "--rule", "topic read z")


def test_two_who_add_rules_at_once_lose_none(place):
    place.run("role", "add", "r", "--rule", "topic read a/#")
    running = [subprocess.Popen([martlet_process.binary(), "role", "allow", "r", f"read t{number}/#", "--data-dir",
                                 str(place.path)], stdout=subprocess.DEVNULL, env=martlet_process.environment())
               for number in range(6)]
    assert [one.wait(timeout=DEADLINE_SECS) for one in running] == [0] * 6
    rules = json.loads(place.run("role", "rules", "r", "--json"))["rules"]
    assert sorted(rules) == sorted(["topic read a/#"] + [f"topic read t{number}/#" for number in range(6)])
