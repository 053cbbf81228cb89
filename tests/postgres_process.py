"""A server of PostgreSQL from Debian's package, on a socket in a directory of its own."""

import atexit
import contextlib
import functools
import glob
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from urllib.parse import urlsplit

import martlet_process

# With the tables of the program, and nothing in them.
TEMPLATE = "with_tables"


@functools.cache
def initialized():
    """A data directory as `initdb` makes it. Each server has a copy: to make one takes ten times as long."""
    place = tempfile.mkdtemp(prefix="martlet-pg-", dir="/tmp")
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return place


class Server:
    def __init__(self):
        found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
        assert found, "PostgreSQL is not installed: it comes with the package postgresql"
        self.programs = os.path.dirname(found[-1])
        self.place = tempfile.mkdtemp(prefix="martlet-pg-", dir="/tmp")
        self.owner = {}
        if os.getuid() == 0:
            # It refuses to run as root.
            user = pwd.getpwnam("postgres")
            os.chown(self.place, user.pw_uid, user.pw_gid)
            self.owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.has_template = False
        self.names = (f"d{number}" for number in itertools.count())
        self.data = os.path.join(self.place, "data")
        # The copy belongs to the same user, and its mode is as PostgreSQL wants it.
        subprocess.run(["cp", "-a", self.initialized(), self.data], check=True)
        self.start()

    def initialized(self):
        data = os.path.join(initialized(), "data")
        if not os.path.exists(data):
            if self.owner:
                os.chown(initialized(), self.owner["user"], self.owner["group"])
            self.run("initdb", "--no-sync", "-A", "trust", "-U", "martlet", "-E", "UTF8", "-D", data)
        return data

    def run(self, program, *arguments):
        done = subprocess.run(
            [os.path.join(self.programs, program), *arguments], cwd=self.place, capture_output=True,
            text=True, env={"PGHOST": self.place, "PGUSER": "martlet", "PATH": os.environ["PATH"]},
            **self.owner,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
        return done.stdout

    def sql(self, url, text):
        """Runs SQL in the database of that URL; rows as lines, with | between the columns."""
        database = urlsplit(url).path.removeprefix("/")
        return self.run("psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text)

    def start(self, *more):
        """With these settings beside its own."""
        options = f"-c listen_addresses= -c unix_socket_directories={self.place} -c fsync=off -c autovacuum=off"
        options = " ".join([options, *(f"-c {setting}" for setting in more)])
        log = os.path.join(self.place, "log")
        self.run("pg_ctl", "-D", self.data, "-l", log, "-w", "-o", options, "start")

    def stop(self):
        self.run("pg_ctl", "-D", self.data, "-w", "-m", "immediate", "stop")

    def processes(self):
        """Numbers of its processes, the first one first."""
        with open(os.path.join(self.data, "postmaster.pid"), encoding="utf-8") as file:
            first = int(file.readline())
        found = [first]
        for path in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) == first:
                found.append(int(path.split("/")[2]))
        return found

    def signal(self, number):
        for process in self.processes():
            try:
                os.kill(process, number)
            except ProcessLookupError:
                pass

    def hang(self):
        """It takes connections and data, and answers nothing."""
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def kill(self):
        self.signal(signal.SIGKILL)
        for process in self.processes():
            while os.path.exists(f"/proc/{process}") and not self.is_zombie(process):
                time.sleep(0.02)
        # A dead process that nobody has waited for counts as a server that runs.
        for left in (os.path.join(self.data, "postmaster.pid"), *glob.glob(os.path.join(self.place, ".s.PGSQL.*.lock"))):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(left)

    @staticmethod
    def is_zombie(process):
        try:
            with open(f"/proc/{process}/stat", encoding="utf-8", errors="replace") as file:
                return file.read().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    def serve_tls(self, certificate, key, password):
        """By TCP alone, with TLS and a password; the port."""
        self.run("psql", "-d", "postgres", "-c", f"ALTER USER martlet PASSWORD '{password}'")
        self.stop()
        for path, name in ((certificate, "server.crt"), (key, "server.key")):
            copy = os.path.join(self.data, name)
            shutil.copy(path, copy)
            os.chmod(copy, 0o600)
            if self.owner:
                os.chown(copy, self.owner["user"], self.owner["group"])
        with open(os.path.join(self.data, "pg_hba.conf"), "w", encoding="utf-8") as rules:
            rules.write("local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.start("ssl=on", "listen_addresses=127.0.0.1", f"port={port}")
        return port

    def new_database(self, has_tables=True):
        """URL of a database that nobody else has: empty, or with the tables of the program as its start has made them,
        which takes longer than to copy them."""
        name = next(self.names)
        self.run("createdb", "-T", self.template() if has_tables else "template0", name)
        return self.url(name)

    def url(self, name):
        return f"postgres://martlet@localhost/{name}?host={self.place}"

    def template(self):
        if not self.has_template:
            self.run("createdb", "-T", "template0", TEMPLATE)
            with tempfile.TemporaryDirectory(prefix="martlet-template-") as data_dir:
                environment = {**martlet_process.environment(), "MARTLET_REGISTRY__URL": self.url(TEMPLATE)}
                subprocess.run([martlet_process.binary(), "user", "ls", "--data-dir", data_dir], env=environment, check=True,
                               capture_output=True, timeout=martlet_process.DEADLINE_SECS)
            self.has_template = True
        return TEMPLATE

    def close(self):
        try:
            self.stop()
        finally:
            shutil.rmtree(self.place, ignore_errors=True)
