"""What is missing in a node that goes on from a backup, put to `martlet why`: the headline says that a backup was
restored, and when it was made."""

import re

import martlet_process
from why_faults import Faults, printed_secret


def test_a_name_is_newer_than_the_backup_that_was_restored(tmp_path):
    backup, data = tmp_path / "node.tar", tmp_path / "data"
    with Faults() as old:
        old.device("before")
        old.run("backup", "create", str(backup))
        old.device("after")
    assert martlet_process.run("backup", "restore", str(backup), "--data-dir", str(data)).returncode == 0
    with Faults(path=data) as node:
        restored = r"; the node was restored on \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC from a backup of \d{4}-\d\d-\d\d " \
                   r"\d\d:\d\d:\d\d UTC: a user or device that was added after that backup is not in the tables"
        told = node.headline("nobody-known", "after that backup", "after")
        assert re.search(restored, told["sentence"]), told
        assert not node.comes("after", "secret")
        told = node.headline("unknown-name", "after that backup", "after")
        assert re.search(restored, told["sentence"]), told
        secret = printed_secret(node.bash(told))
        assert node.comes("after", secret)
        node.over("after")
        # A credential that is newer.
        assert not node.comes("before", "newer")
        told = node.headline("wrong-password", "a credential that was set after that backup is not in the tables", "before")
        assert node.comes("before", printed_secret(node.bash(told)))
        node.over("before")
