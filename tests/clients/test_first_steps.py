"""What commands say to somebody who uses them for the first time, so that the next step is the right one."""

import pathlib

import martlet_process


def said(*arguments, code=0):
    done = martlet_process.run(*arguments)
    assert done.returncode == code, done
    return done.stdout + done.stderr


def test_a_user_without_a_role_is_told_what_it_may_do(tmp_path):
    of_node = ("--generate", "--data-dir", str(tmp_path))
    told = said("user", "add", "ann", *of_node)
    assert "Added user ann with the role user" in told
    assert "This role permits all topics; --role gives another" in told, told
    assert "permits all topics" not in said("user", "add", "bob", "--role", "user", *of_node)


def test_a_backup_says_what_is_not_in_it(start_node, tmp_path):
    node = start_node()
    told = said("backup", "create", str(tmp_path / "one.backup"), "--data-dir", str(node.data_dir))
    assert "the configuration and the files that it names, such as certificates, are not in it" in told


def test_a_reload_tells_a_key_that_needs_a_restart_once(start_node, tmp_path):
    config = tmp_path / "martlet.toml"
    config.write_text("[limits]\nin_flight = 20\n[auth]\nlockout_failures = 10\n")
    node = start_node(arguments=("-c", str(config)), data_dir=tmp_path / "data")
    config.write_text("[limits]\nin_flight = 30\n[auth]\nlockout_failures = 20\n")
    told = said("reload", "--data-dir", str(node.data_dir), code=3)
    changed = next(line for line in told.splitlines() if line.startswith("changed: "))
    assert "auth.lockout_failures" in changed and "limits.in_flight" not in changed, told
    assert told.count("limits.in_flight") == 1 and "limits.in_flight has changed, which needs a restart" in told


def test_a_certificate_for_a_node_of_init_is_issued_by_the_ca_that_is_there(tmp_path):
    said("init", str(tmp_path / "node"))
    missing = str(tmp_path / "certs")
    told = said("cert", "server", "--dir", missing, "localhost", code=1)
    assert "such as that of martlet init in DIR/certs, name its directory by --dir" in told, told
    said("cert", "server", "--dir", str(tmp_path / "node" / "certs"), "--file", "other", "localhost")


def test_a_misspelt_keyword_of_mosquitto_conf_is_told_with_the_right_one(tmp_path):
    conf = pathlib.Path(tmp_path) / "mosquitto.conf"
    conf.write_text("persistance true\n")
    told = said("import", "mosquitto", str(conf), code=1)
    assert "did you mean `persistence`?" in told, told
    conf.write_text("xyzzy true\n")
    assert "did you mean" not in said("import", "mosquitto", str(conf), code=1)
