"""An HTTP server of files that can be told to misbehave."""

import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote, unquote


class Unreliable(BaseHTTPRequestHandler):
    """`faults` says what becomes of the next GETs, one after another, then of all others `always`; `asked`: ranges so far.

    "503", "404", ...: this status. "cut": half of the bytes, then the end. "trickle": a byte, then nothing. "whole": 200 and all of the
    file. "elsewhere": bytes of another place, and says so. "changed": another ETag. "bare": no ETag and no time. "packed": gzip.
    "reset": the connection is, before any answer. A folder is a page of links.
    """

    folder: ClassVar[Path]
    faults: ClassVar[list[str]]
    always: ClassVar[str]
    asked: ClassVar[list[str]]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False, fault=self.always)

    def do_GET(self) -> None:
        self.asked.append(self.headers.get("Range", ""))
        self._answer(body=True, fault=self.faults.pop(0) if self.faults else self.always)

    def _answer(self, body: bool, fault: str) -> None:
        path = self.folder / unquote(self.path).lstrip("/")
        if fault == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            self.close_connection = True
            return
        if path.is_dir() and not fault:
            names = (entry.name + "/" * entry.is_dir() for entry in path.iterdir())
            page = "".join(f'<a href="{quote(name)}">{name}</a>' for name in ("../", *names)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page if body else b"")
            return
        if fault.isdigit() or not path.is_file():
            self.send_response(int(fault) if fault.isdigit() else 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = path.read_bytes()
        start, stop = 0, len(content)
        if body and fault != "whole" and (match := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))):
            start, stop = int(match[1]), min(int(match[2]) + 1, len(content))
            if fault == "elsewhere":
                start, stop = start + 16384, stop + 16384
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        else:
            self.send_response(200)
        if fault != "bare":
            self.send_header("ETag", '"other"' if fault == "changed" else f'"{path.stat().st_mtime_ns}"')
            self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
        if fault == "packed":
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        if body:
            self._send(content[start:stop], fault)

    def _send(self, data: bytes, fault: str) -> None:
        with suppress(ConnectionError):
            if fault == "cut":
                self.wfile.write(data[: len(data) // 2])
                self.close_connection = True
                self.connection.shutdown(2)
            elif fault == "trickle":
                self.wfile.write(data[:1])
                time.sleep(1.5)
                self.close_connection = True
            else:
                self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def unreliable(folder: Path, *faults: str, always: str = "") -> Iterator[tuple[str, type[Unreliable]]]:
    """(URL, the handler's class, whose `faults` and `always` may be changed) of a server of the files in `folder`."""
    handler = type("Handler", (Unreliable,), {"folder": folder, "faults": list(faults), "always": always, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
