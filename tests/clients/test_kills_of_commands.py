"""Kills of the node while commands to groups and rollouts are in progress: each device does each of them, and none is
lost, made twice or stuck."""

import collections
import time

import martlet_process
from device_fleet import Fleet
from server_process import free_port
from test_http_api import KEY
from test_http_registry import call
from test_rollouts import add_devices, devices_of, start, until_shown, upload
from test_sinks import until

DEVICES = 40
KILLS = 4


def test_kills_during_group_commands_and_rollouts(tmp_path, start_node):
    how = {"http": True, "variables": {"MARTLET_HTTP__API_KEYS": f"all:{KEY}"}, "data_dir": tmp_path,
           "settings": ["http.rate=0", "limits.connect_rate_per_address=0"]}
    # Its own over the kills: the devices try to connect to it meanwhile.
    how["listen"] = [f"mqtt://127.0.0.1:{free_port()}"]
    node = start_node(**how)
    made = add_devices(node, DEVICES)
    upload(node)
    fleet = Fleet(node.port(), [(one, "succeed") for one in made])
    groups, rollouts = [], []
    path = "/api/v1/groups/pumps/commands"
    try:
        for turn in range(KILLS):
            until(lambda: len(fleet.subscribed) == DEVICES, lambda: f"{len(fleet.subscribed)} devices have subscribed", 60)
            # Both kinds begin, and the node dies a little later each time.
            command = call(node, "POST", path, {"kind": "firmware", "command": "check", "id": f"check-{turn}"})
            assert command["devices"] == DEVICES
            groups.append(command["id"])
            # A device is in one rollout of a firmware at a time, and the one before may not have ended.
            part = {"version": f"3.{turn}"}
            upload(node, name=f"part-{turn}", **part)
            rollouts.append(start(node, firmware=f"part-{turn}", waves=["25%", "100%"], **part)["id"])
            time.sleep(0.05 + 0.15 * turn)
            node.process.kill()
            node.process.wait()
            fleet.subscribed.clear()
            node = start_node(**how)
        for rollout in rollouts:
            done = until_shown(node, rollout, lambda found: found["state"] not in ("running", "planned"), 60)
            assert (done["state"], done["states"]) == ("succeeded", {"succeeded": DEVICES})
            assert len(devices_of(node, rollout)) == DEVICES

        def states(command):
            found = [one for one in call(node, "GET", path)["items"] if one["id"] == command]
            return found[0]["states"]

        for command in groups:
            until(lambda: states(command) == {"succeeded": DEVICES}, lambda: f"{command}: {states(command)}", 60)
        for device in fleet.devices.values():
            # At least once: a message may come again after a kill, always as the same command.
            came = collections.Counter(command["id"] for command in device.commands)
            assert set(came) == {*groups, *rollouts}, (device.id, came)
            assert max(came.values()) <= 1 + KILLS, (device.id, came)
            listed = call(node, "GET", f"/api/v1/devices/{device.id}/commands?limit=100")["items"]
            assert sorted(one["id"] for one in listed) == sorted([*groups, *rollouts])
        shown = martlet_process.run("health", "--data-dir", str(tmp_path))
        assert shown.returncode == 0, shown.stdout
    finally:
        fleet.close()
