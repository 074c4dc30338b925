"""The containers' health checks, against real servers and processes: well, ill, absent."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deployments.probe import check_process, check_url, check_worker

WORKERS = [{"name": "worker-1", "status": "ONLINE"}, {"name": "worker-2", "status": "OFFLINE"}]
LOGIN = "sluiceway:a password"


class _Answers(BaseHTTPRequestHandler):
    """A dashboard that is well at /healthz, and a Prefect API with two workers."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/healthz" else 503)
        self.end_headers()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        is_known = self.headers["Authorization"] == "Basic c2x1aWNld2F5OmEgcGFzc3dvcmQ="
        self.send_response(200 if is_known else 401)
        self.end_headers()
        self.wfile.write(json.dumps(WORKERS if is_known else []).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answers) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{found.server_port}"
        found.shutdown()
        thread.join()


def test_an_address(server: str) -> None:
    assert check_url(f"{server}/healthz") == ""
    assert check_url(f"{server}/other").endswith("answers 503.")
    assert "does not answer" in check_url("http://127.0.0.1:1/healthz")


@pytest.fixture
def prefect(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that Prefect's programs log in by."""
    profile = tmp_path / "profile"
    profile.write_text(
        f'active = "here"\n[profiles.here]\nPREFECT_API_AUTH_STRING = {json.dumps(LOGIN)}\n'
    )
    monkeypatch.setenv("PREFECT_API_URL", server)
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profile))
    monkeypatch.delenv("PREFECT_API_SSL_CERT_FILE", raising=False)
    return profile


def test_a_worker(prefect: Path) -> None:
    assert check_worker("batch", "worker-1") == ""
    assert check_worker("batch", "worker-2") == "The pool batch has no live worker worker-2."
    assert check_worker("batch", "worker-3") == "The pool batch has no live worker worker-3."
    prefect.write_text("")
    assert "401" in check_worker("batch", "worker-1")


def test_a_process() -> None:
    mark = f"probed.{os.getpid()}"
    assert check_process(mark) == f"No process runs {mark}."
    program = "import sys, time; print(flush=True); time.sleep(600)"
    with subprocess.Popen(
        [sys.executable, "-c", program, mark], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert check_process(mark) == ""
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert check_process(mark) == f"{mark} is frozen."
        child.kill()
    assert check_process(mark) == f"No process runs {mark}."


def test_an_engines_own_process_is_none_of_ours(tmp_path: Path) -> None:
    for pid, command, state in ((1, "/sbin/docker-init", "S"), (7, "python", "T")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cmdline").write_text(f"{command}\0-m\0flows.send_mail\0")
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {state} 0 0")
    assert check_process("flows.send_mail", tmp_path) == "flows.send_mail is frozen."


def test_the_command_tells_by_its_exit_code(server: str) -> None:
    for path, code in (("healthz", 0), ("other", 1)):
        done = subprocess.run(
            [sys.executable, "-m", "deployments.probe", "url", f"{server}/{path}"],
            capture_output=True,
            check=False,
        )
        assert done.returncode == code
