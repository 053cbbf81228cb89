"""A server's certificate for benchmarks, made once by OpenSSL: P-256, self-signed, for this machine alone. It is
valid long enough to raise no alarm: the broker would write that to its tables while it is measured."""

import atexit
import functools
import pathlib
import shutil
import subprocess
import tempfile
import typing


class Made(typing.NamedTuple):
    """Paths of PEM files."""

    certificate: str
    key: str


@functools.cache
def server():
    """The certificate, which is its own CA, and its key; they go with the process."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="martlet-bench-tls-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    made = Made(str(directory / "server.crt"), str(directory / "server.key"))
    # The files of one key, read by brokers that may run as another user.
    directory.chmod(0o755)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         made.key, "-out", made.certificate, "-subj", "/CN=localhost", "-days", "400", "-addext",
         "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"], check=True, capture_output=True)
    return made
