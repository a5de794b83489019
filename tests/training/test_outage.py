"""Weights & Biases cannot be reached: a run loses the mirror, and nothing else."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from programs import train

from pathssl.records import find_runs, read_metrics, read_status
from pathssl.training import tracking

PROJECT = {"id": "cA==", "name": "p", "entity": {"id": "ZQ==", "name": "e"}}
BUCKET = {"id": "cnVu", "name": "r", "displayName": "r", "config": "{}", "historyLineCount": 0, "project": PROJECT}
ANSWERS = {
    "RunResumeStatus": {"model": PROJECT | {"bucket": None}},
    "UpsertBucket": {"upsertBucket": {"bucket": BUCKET, "inserted": True}},
    "ServerFeaturesQuery": {"serverInfo": {"features": []}},
}


class OneRun(BaseHTTPRequestHandler):
    """As much of W&B's server as lets a run begin. It is gone when the first metrics come."""

    def do_POST(self):
        question = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.endswith("/file_stream"):
            self.server.streamed.set()
            self.server.socket.close()
            return
        name = re.search(r"(?:query|mutation)\s+(\w+)", json.loads(question)["query"])[1]
        answer = json.dumps({"data": ANSWERS.get(name, {})}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


@pytest.fixture
def online(monkeypatch):
    """online(address) sends runs with logger=wandb there; W&B may keep a run waiting for two seconds at each end."""
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    return lambda address: monkeypatch.setenv("WANDB_BASE_URL", address)


def the_finished_run(small, tmp_path):
    done = train(*small, "logger=wandb", cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stdout + done.stderr, done.stdout + done.stderr
    (run,) = find_runs(tmp_path / "outputs" / "small")
    assert read_status(run)["state"] == "finished" and [row["step"] for row in read_metrics(run)] == [0, 2, 4, 6, 8]
    return run


@pytest.mark.slow
def test_a_run_begins_without_it_and_the_log_says_so_once(online, small, tmp_path, monkeypatch):
    online("http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setattr(tracking, "_INIT_S", 2.0)
    run = the_finished_run(small, tmp_path)
    assert (run / "log.txt").read_text().count("Weights & Biases failed") == 1


@pytest.mark.slow
def test_a_run_ends_without_it_and_the_log_says_so_once(online, small, tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), OneRun)
    server.streamed = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    online(f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(tracking, "_FINISH_S", 2.0)
    run = the_finished_run(small, tmp_path)
    assert server.streamed.is_set()  # it began well
    assert (run / "log.txt").read_text().count("Weights & Biases failed (Timed out finishing run") == 1
