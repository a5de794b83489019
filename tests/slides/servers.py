"""Servers of files on loopback: nginx, and an S3 server that real clients talk to."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pathssl.slides.remote.store import _store

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")


class Nginx:
    """Serves a folder. url: of it. start, stop: as somebody restarts a server. requests: (status, bytes sent) of each so far."""

    def __init__(self, served: Path, place: Path, more: str = ""):
        if NGINX is None:
            pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
        place.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url, self._place = f"http://127.0.0.1:{self.port}", place
        user = "user root;" if os.geteuid() == 0 else ""  # temporary folders of tests are for their owner alone
        temporary = "".join(
            f"{name}_temp_path {place}/{name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (place / "nginx.conf").write_text(
            f"{user} daemon off; worker_processes 1; pid {place}/pid; error_log {place}/error.log;\n"
            "events { worker_connections 256; }\n"
            f"http {{ {temporary} log_format brief '$request_method $status $body_bytes_sent'; access_log {place}/access.log brief;\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {served}; {more} }} }}\n"
        )
        self._process = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [NGINX, "-p", str(self._place), "-c", str(self._place / "nginx.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + 10
        while time.monotonic() < until:
            with socket.socket() as knock:
                if knock.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, (self._place / "error.log").read_text()
            time.sleep(0.01)
        raise AssertionError("nginx does not listen")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def requests(self) -> list[tuple[str, int, int]]:
        lines = (self._place / "access.log").read_text().splitlines()
        return [(method, int(status), int(sent)) for method, status, sent in map(str.split, lines)]


@contextmanager
def nginx(served: Path, place: Path, more: str = "") -> Iterator[Nginx]:
    server = Nginx(served, place, more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def s3(served: Path, bucket: str = "slides") -> Iterator[str]:
    """The URL of a bucket with a folder's files; the environment names its server and has credentials for it."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install '.[s3]')")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed (pip install '.[dev]')")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    changes = pytest.MonkeyPatch()
    changes.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    changes.setenv("AWS_ACCESS_KEY_ID", "test")
    changes.setenv("AWS_SECRET_ACCESS_KEY", "test")
    changes.setenv("AWS_DEFAULT_REGION", "us-east-1")
    _store.cache_clear()  # this process may have talked to another server
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket=bucket)
        for file in served.rglob("*"):
            if file.is_file():
                client.upload_file(str(file), bucket, file.relative_to(served).as_posix())
        yield f"s3://{bucket}"
    finally:
        changes.undo()
        server.stop()
        _store.cache_clear()
