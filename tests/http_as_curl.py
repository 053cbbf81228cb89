"""Requests as curl sends them, without its process, which takes ten times as long as the answer. The lines of documents
are typed with curl itself."""

import contextlib
import http.client
import json
import pathlib
from urllib.parse import urlsplit

DEADLINE_SECS = 60


def requested(url, method, body=None, options=()):
    """Status, Content-Type without its parameters, text of the body, and the headers as they came. Of curl's options
    `-H LINE` and `--data-binary BODY` are known."""
    place = urlsplit(url)
    given = list(zip(options[::2], options[1::2], strict=True))
    assert {option for option, _ in given} <= {"-H", "--data-binary"}, options
    lines = dict(value.split(": ", 1) for option, value in given if option == "-H")
    body = next((value for option, value in given if option == "--data-binary"), body)
    defaults = {"User-Agent": "curl/8", "Accept": "*/*"}
    data = b""
    if body is not None:
        data = bytes_of(body)
        defaults |= {"Content-Type": "application/x-www-form-urlencoded", "Content-Length": str(len(data))}
    names = {name.lower() for name in lines}
    lines |= {name: value for name, value in defaults.items() if name.lower() not in names}
    with contextlib.closing(http.client.HTTPConnection(place.hostname, place.port, timeout=DEADLINE_SECS)) as wire:
        wire.putrequest(method, url.split(place.netloc, 1)[1], skip_accept_encoding=True)
        for name, value in lines.items():
            wire.putheader(name, value)
        wire.endheaders()
        # A body that is too long is refused before its end.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            wire.send(data)
        answer = wire.getresponse()
        text = answer.read().decode()
    kind = answer.headers.get("Content-Type")
    return answer.status, kind and kind.partition(";")[0], text, str(answer.headers)


def bytes_of(body):
    """A value, a text, or `@` with the path of a file."""
    if not isinstance(body, str):
        return json.dumps(body).encode()
    return pathlib.Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
