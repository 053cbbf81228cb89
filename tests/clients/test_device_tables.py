"""Devices as tables, as spreadsheets and scripts write and read them: what is exported is imported again
as it was, by commands and by HTTP."""

import csv
import io
import json
import resource
import subprocess

import pytest

import martlet_process
from test_access import publish
from test_http_api import KEY, KEYS, ask
from test_http_registry import DEADLINE_SECS, call
from test_registry import Place

# What people write into the fields of a device, and spreadsheets take for something else.
ODD = {
    "quotes": 'the "old" one',
    "commas": "cellar, left, \"third\" door",
    "lines": "first\nsecond\r\nthird",
    "formula": "=HYPERLINK(\"http://x\")",
    "marked": "'=1+1",
    "negative": "-12 °C",
    "apostrophe": "'tis",
    "at": "@home",
    "umlaut": "Prüfstand ☃",
}


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "data")


def exact(place, *arguments, given=b""):
    """What a command prints, byte by byte: line ends count here."""
    done = subprocess.run([martlet_process.binary(), *arguments, "--data-dir", str(place.path)], input=given,
                          env=martlet_process.environment(), capture_output=True, timeout=DEADLINE_SECS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def described(node):
    items = call(node, "GET", "/api/v1/devices?limit=1000")["items"]
    fields = ("name", "description", "location", "firmware_version", "tags", "status")
    return {one["id"]: {field: one[field] for field in fields} for one in items}


@pytest.fixture
def filled(start_node):
    """A node with odd devices."""
    node = start_node(http=True, variables=KEYS)
    for device, text in ODD.items():
        name = text if "\n" not in text else device
        call(node, "POST", "/api/v1/devices", {
            "id": device, "name": name, "description": text, "location": text, "status": "maintenance",
            "firmware_version": text, "tags": [name, "a;b", "c\\d", "e"]})
    return node


def test_what_commands_export_they_import_as_it_was(filled, start_node, place):
    table = exact(Place(filled.data_dir), "device", "export")
    other = start_node(http=True, variables=KEYS, data_dir=place.path)
    said = exact(place, "device", "import", "-", given=table).decode()
    assert described(other) == described(filled) and len(described(other)) == len(ODD)
    assert [one["id"] for one in csv.DictReader(io.StringIO(said))] == sorted(ODD)
    assert exact(place, "device", "export") == table


def test_what_is_exported_by_http_is_imported_as_it_was(filled, start_node):
    table = ask(filled, "/api/v1/devices/export", headers={"X-API-Key": KEY})[2]
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert not any(field.startswith(("=", "+", "-", "@")) for row in rows for field in row.values())
    other = start_node(http=True, variables=KEYS)
    done = call(other, "POST", "/api/v1/devices/import", table, kind="text/csv")
    assert done["refused"] == 0, done
    assert described(other) == described(filled)
    assert ask(other, "/api/v1/devices/export", headers={"X-API-Key": KEY})[2] == table


@pytest.mark.parametrize("end", ("\n", "\r\n", "\r"), ids=("LF", "CRLF", "CR"))
@pytest.mark.parametrize("mark", ("", "\ufeff"), ids=("", "BOM"))
@pytest.mark.parametrize("quoted", (False, True), ids=("bare", "quoted"))
def test_a_table_of_a_spreadsheet_is_read(start_node, tmp_path, end, mark, quoted):
    rows = [["id", "name", "type"], ["pump", "Pump, big" if quoted else "Pump", "device"], ["valve", "", ""], ["", "", ""]]
    field = (lambda text: f'"{text}"') if quoted else (lambda text: text)
    text = mark + "".join(",".join(map(field, row)) + end for row in rows)
    node = start_node(http=True, variables=KEYS)
    place = Place(node.data_dir)
    table = tmp_path / "devices.csv"
    table.write_bytes(text.encode())
    said = exact(place, "device", "import", str(table)).decode()
    # As a shell reads it: a line ends with LF alone.
    lines = said.split("\n")
    assert lines[0] == "id,secret" and "\r" not in said
    secrets = dict(line.split(",") for line in lines[1:] if line)
    assert sorted(secrets) == ["pump", "valve"]
    for device, secret in secrets.items():
        assert publish(node, f"d/{device}/x", "-i", device, "-u", device, "-P", secret)[0] == 0
    names = {one["id"]: one["name"] for one in json.loads(place.run("device", "ls", "--json"))["items"]}
    assert names == {"pump": rows[1][1], "valve": "valve"}
    for device in names:
        place.run("device", "rm", device, "--purge")
    done = call(node, "POST", "/api/v1/devices/import", text.encode(), kind="text/csv; charset=utf-8")
    assert (done["added"], done["refused"]) == (2, 0) and [row["row"] for row in done["rows"]] == [2, 3]


def test_what_is_no_table_of_devices_is_told(place):
    semicolons = place.run("device", "import", "-", given="id;name\npump;Pump\n", code=1)
    assert "with a comma between them" in semicolons
    assert "line 2" in place.run("device", "import", "-", given='id,name\npump,"Pump\n', code=1)


def test_a_column_is_named_once(place, start_node):
    table = "id,id\na,b\n"
    assert 'the table has two columns "id"' in place.run("device", "import", "-", given=table, code=1)
    node = start_node(data_dir=place.path, http=True, variables=KEYS)
    told = call(node, "POST", "/api/v1/devices/import", table.encode(), kind="text/csv", expect=422)
    assert 'two columns "id"' in told["detail"]


def test_a_long_table_is_imported_in_parts_and_its_rows_keep_their_lines(place):
    place.run("team", "add", "north")
    ids = [f"d{number}" for number in range(1100)]
    ids[700] = "d0"
    table = "id,description\n" + "".join(f'{name},"first\nsecond"\n' for name in ids)
    tried = place.run("device", "import", "-", "--dry-run", given=table, code=3)
    assert "1099 would be added, 1 refused" in tried, tried
    said = place.run("device", "import", "-", "--team", "north", given=table, code=3)
    # Each row has two lines.
    assert f"line {2 + 2 * 700}: d0: d0 already exists" in said and "1099 added, 1 refused" in said, said
    added = {one["id"]: one["team"] for one in json.loads(place.run("device", "ls", "--json"))["items"]}
    assert added.keys() == set(ids) and len(set(added.values())) == 1 and "" not in added.values()
    listed = json.dumps([{"id": f"{name}-2"} for name in ids])
    said = place.run("device", "import", "-", "--json", given=listed[:-1] + ', {"id": "a#b"}]', code=3)
    done = json.loads(said.splitlines()[0])
    rows = {row["row"]: row for row in done["rows"]}
    assert (done["added"], done["refused"]) == (1099, 2) and len(rows) == 1101
    assert [number for number, row in rows.items() if row["outcome"] != "added"] == [701, 1101]
    assert all(len(row["secret"]) > 15 for row in rows.values() if row["outcome"] == "added")


def test_a_file_without_end_is_no_table(place):
    """Within the memory that a table takes."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    done = subprocess.run([martlet_process.binary(), "device", "import", "/dev/zero", "--data-dir", str(place.path)],
                          env=martlet_process.environment(), capture_output=True, text=True, timeout=60, preexec_fn=limit)
    assert done.returncode == 1 and "cannot read /dev/zero: it is longer than 256 MiB" in done.stderr, done
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        cat.stdin.write(b"id\npump\n")
        cat.stdin.close()
        pipe = f"/dev/fd/{cat.stdout.fileno()}"
        done = subprocess.run([martlet_process.binary(), "device", "import", pipe, "--data-dir", str(place.path)],
                              env=martlet_process.environment(), capture_output=True, timeout=60, pass_fds=[cat.stdout.fileno()])
    assert done.returncode == 0, "a pipe, as a shell makes one of <(cat)"


def test_a_secret_belongs_to_one_device(place, start_node):
    """By HTTP a device is found by it."""
    same = "0123456789abcdefX"
    why = "another device has this secret already"
    told = place.run("device", "import", "-", given=f"id,secret\ns2,{same}\ns3,{same}\ns4,{same}9\n", code=3)
    assert f"line 3: s3: {why}" in told and "2 added, 1 refused" in told, told
    told = place.run("device", "import", "-", given=f"id,secret\ns2,{same}\ns5,{same}\n", code=3)
    assert "line 2: s2: s2 already exists" in told and f"line 3: s5: {why}" in told, told
    node = start_node(data_dir=place.path, http=True, variables=KEYS)
    told = call(node, "POST", "/api/v1/devices", {"id": "s6", "secret": same}, expect=409)
    assert why in told["detail"] and same not in json.dumps(told), told
    rows = call(node, "POST", "/api/v1/devices/import", f"id,secret\ns7,{same}\n".encode(), kind="text/csv")["rows"]
    assert rows[0]["outcome"] == "exists" and why in json.dumps(rows), rows
    assert {one["id"] for one in call(node, "GET", "/api/v1/devices")["items"]} == {"s2", "s4"}
    # Once it is revoked, another device may have it.
    call(node, "POST", "/api/v1/devices/s2/rotate", {"grace_secs": 0})
    call(node, "POST", "/api/v1/devices", {"id": "s6", "secret": same})


def test_devices_move_to_another_node_with_team_and_groups_by_name(start_node, place, variables, tmp_path):
    one = start_node(http=True, variables=KEYS)
    for path, body in (
            ("teams", {"name": "north", "owns_tenant": True}), ("groups", {"name": "hall", "team": "north"}),
            ("groups", {"name": "hall"}), ("groups", {"name": "yard"}),
            ("devices", {"id": "pump", "team": "north", "groups": ["hall", "yard"], "tags": ["a", "b"]})):
        call(one, "POST", f"/api/v1/{path}", body)
    common = next(group["id"] for group in call(one, "GET", "/api/v1/groups")["items"]
                  if (group["name"], group["team"]) == ("hall", ""))
    call(one, "POST", "/api/v1/devices", {"id": "valve", "groups": [common]})
    table = ask(one, "/api/v1/devices/export", headers={"X-API-Key": KEY})[2]
    rows = {row["id"]: row for row in csv.DictReader(io.StringIO(table.decode(), newline=""))}
    assert (rows["pump"]["team"], rows["pump"]["groups"], rows["valve"]["groups"]) == ("north", "hall;yard", "hall")
    exported = ask(one, "/api/v1/devices/export?format=json", headers={"X-API-Key": KEY})[2]
    printed = exact(Place(one.data_dir), "device", "export", "--json")
    assert exact(Place(one.data_dir), "device", "export").replace(b"\n", b"\r\n") == table
    # Of two of one name that of its team would be meant.
    call(one, "POST", f"/api/v1/groups/{common}/devices", {"devices": []})
    call(one, "PATCH", "/api/v1/devices/pump?team=north", {"groups": [common]})
    rows = csv.DictReader(io.StringIO(exact(Place(one.data_dir), "device", "export").decode()))
    assert {row["id"]: row["groups"] for row in rows} == {"pump": common, "valve": "hall"}

    other = start_node(http=True, variables=variables)
    call(other, "POST", "/api/v1/teams", {"name": "north", "owns_tenant": True})
    for body in ({"name": "hall", "team": "north"}, {"name": "hall"}, {"name": "yard"}):
        call(other, "POST", "/api/v1/groups", body)
    file = tmp_path / "devices.json"
    file.write_bytes(printed)
    ways = {
        "bulk": lambda: call(other, "POST", "/api/v1/devices/bulk", exported),
        "import": lambda: call(other, "POST", "/api/v1/devices/import", exported),
        "table": lambda: call(other, "POST", "/api/v1/devices/import", table, kind="text/csv"),
    }
    for how, way in ways.items():
        done = way()
        assert (done["added"], done["refused"]) == (2, 0), (how, done)
        again = ask(other, "/api/v1/devices/export", headers={"X-API-Key": KEY})[2]
        assert again == table, how
        call(other, "POST", "/api/v1/devices/pump/purge?team=north")
        call(other, "POST", "/api/v1/devices/valve/purge")
    odd = json.loads(exported)[:1]
    odd[0]["colour"] = "red"
    [told] = call(other, "POST", "/api/v1/devices/bulk", odd)["rows"]
    assert told["outcome"] == "refused" and told["why"].startswith("colour: unknown field"), told
    for given in (str(file), "-"):
        fresh = Place(tmp_path / given.replace("/", "_"))
        fresh.run("team", "add", "north", "--own-tenant")
        fresh.run("group", "add", "hall", "--team", "north")
        fresh.run("group", "add", "hall")
        fresh.run("group", "add", "yard")
        exact(fresh, "device", "import", given, given=printed if given == "-" else b"")
        assert exact(fresh, "device", "export").replace(b"\n", b"\r\n") == table


def test_passwords_of_another_broker_are_taken_as_the_page_says(start_node, place, tmp_path):
    """Long random ones by a table of devices, the others by a password file that is hashed."""
    table = b"id,secret\npump,0123456789abcdefX\nvalve,short\n"
    done = subprocess.run([martlet_process.binary(), "device", "import", "-", "--data-dir", str(place.path)], input=table,
                          env=martlet_process.environment(), capture_output=True, timeout=DEADLINE_SECS)
    assert done.returncode == 3, done
    refused = done.stderr.decode()
    assert "line 3: valve: " in refused and "16 to 512 bytes" in refused and "martlet passwd -U" in refused, refused
    passwords = tmp_path / "passwd"
    passwords.write_text("valve:short\n")
    passwords.chmod(0o600)
    hashed = martlet_process.run("passwd", "-U", str(passwords))
    assert hashed.returncode == 0 and "short" not in passwords.read_text(), hashed
    node = start_node(data_dir=place.path, settings=[f"auth.password_file={passwords}"])
    assert publish(node, "d/pump/x", "-i", "pump", "-u", "pump", "-P", "0123456789abcdefX")[0] == 0
    assert publish(node, "x", "-i", "v1", "-u", "valve", "-P", "short")[0] == 0
