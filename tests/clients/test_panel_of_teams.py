"""The panel's frames where teams own tenants: who reads them, or has them pushed, is told of one."""

from test_access import until
from test_events import Stream, panels  # noqa: F401
from test_http_api import KEY
from test_http_registry import call, in_a_file, node  # noqa: F401
from test_tenants import TEAMS, device, make_teams


def publish_all(node, teams, common):
    """A message of a client of each tenant, and the common tenant's last."""
    for name, made in [*((name, teams[name]["pump"]) for name in TEAMS), ("common", common)]:
        one = device(node, made)
        one.publish(f"panel/{name}", "x")
        one.close()


@in_a_file
def test_frames_are_of_the_tenant_of_who_asks(node):  # noqa: F811
    teams = make_teams(node)
    common = call(node, "POST", "/api/v1/devices", {"id": "pump", "type": "free"})
    asked = "format=panel&kinds=published"
    streams = {name: [Stream(node, asked, key=teams[name]["key"]), Stream(node, f"{asked}&team={name}", key=KEY)]
               for name in TEAMS}
    streams["common"] = [Stream(node, asked, key=KEY)]
    for _ in range(2):
        publish_all(node, teams, common)
    for name, all_of_it in streams.items():
        for stream in all_of_it:
            frames = [stream.next()[1] for _ in range(2)]
            assert [frame["data"]["topic_name"] for frame in frames] == [f"panel/{name}"] * 2
            stream.close()


@in_a_file
def test_events_of_a_team_are_pushed_from_when_it_is_there(start_node, variables, panels):  # noqa: F811
    panel = panels()
    node = start_node(http=True, variables=variables, settings=[  # noqa: F811
        "http.rate=0", f"events.push_url={panel.url}", "events.push_team=north", "events.push_kinds=published"])

    def health():
        return " ".join(call(node, "GET", "/api/v1/health")["warnings"])

    until(lambda: 'no team "north" with a tenant of its own (events.push_team)' in health(), "it is waited for")
    assert not panel.paths
    teams = make_teams(node)
    common = call(node, "POST", "/api/v1/devices", {"id": "pump", "type": "free"})
    until(lambda: panel.paths and "events.push_team" not in health(), "it is there")
    for _ in range(2):
        publish_all(node, teams, common)
    assert [frame["data"]["topic_name"] for frame in panel.take(2)] == ["panel/north"] * 2
