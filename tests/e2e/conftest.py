"""Real servers and a real one-node Slurm cluster, on loopback, for tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def command(*words: str, check: bool = True, timeout: float = 240, **environment: str) -> subprocess.CompletedProcess:
    """Run `reprod ...` or another program of this environment; text in, text out."""
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment}
    done = subprocess.run(words, capture_output=True, text=True, timeout=timeout, env=variables, check=False)
    if check:
        assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}\n{done.stderr}"
    return done


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.2)
    raise TimeoutError(what)


# -- Slurm ----------------------------------------------------------------------------------------------------------

SLURM_CONF = """\
ClusterName=one
SlurmctldHost=localhost
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/munge.socket
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
AccountingStorageType=accounting_storage/none
JobRequeue=1
KillWait=10
MessageTimeout=60
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={port2}
NodeName=localhost NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=4000
PartitionName=main Nodes=localhost Default=YES State=UP
"""


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A one-node cluster of this machine; skipped, with the reason, where it cannot be had."""
    needed = ("slurmctld", "slurmd", "sbatch", "munged")
    path = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    missing = [program for program in needed if shutil.which(program, path=path) is None]
    if missing:
        pytest.skip(f"no Slurm here ({', '.join(missing)} missing): apt-get install slurm-wlm munge")
    if os.geteuid() != 0:
        pytest.skip("the one-node Slurm cluster is started as root")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(mode=0o755)
    for parent in (folder, *folder.parents):  # munge wants to reach its socket
        with contextlib.suppress(OSError):
            parent.chmod(parent.stat().st_mode | 0o055)
    munge = folder / "munge"
    key = munge / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    munged = subprocess.Popen([
        shutil.which("munged", path=path) or "munged", "--foreground", "--force", f"--key-file={key}",
        f"--socket={munge}/munge.socket", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed",
        f"--log-file={munge}/log",
    ])  # fmt: skip
    conf = folder / "slurm.conf"
    text = SLURM_CONF.format(folder=folder, munge=munge, port=free_port(), port2=free_port(), cpus=os.cpu_count())
    conf.write_text(text)
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
    os.environ |= {"SLURM_CONF": str(conf), "PATH": path}
    daemons = [munged]
    try:
        wait_for((munge / "munge.socket").exists, 20, "munged did not start")
        daemons.append(subprocess.Popen(["slurmctld", "-D", "-f", str(conf)], stderr=subprocess.DEVNULL))
        wait_for(lambda: b"UP" in subprocess.run(["scontrol", "ping"], capture_output=True).stdout, 60, "no slurmctld")
        daemons.append(
            subprocess.Popen(["slurmd", "-D", "-N", "localhost", "-f", str(conf)], stderr=subprocess.DEVNULL)
        )
        idle = lambda: b"idle" in subprocess.run(["sinfo", "-h"], capture_output=True).stdout  # noqa: E731
        wait_for(idle, 60, "the node did not come up")
        yield folder
        subprocess.run(["scancel", "--user=root"], check=False)
    finally:
        for daemon in reversed(daemons):
            daemon.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(15)
            daemon.kill()
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


# -- a tracking server ----------------------------------------------------------------------------------------------


class Server:
    """`mlflow server` on loopback, with proxied artifacts, that can be stopped and started again."""

    def __init__(self, folder: Path, backend: str, *, auth: bool = False):
        self.folder, self.backend, self.auth = folder, backend, auth
        self.port = free_port()
        self.process: subprocess.Popen | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = ["mlflow", "server", "--backend-store-uri", self.backend, "--host", "127.0.0.1", "--workers", "1",
                 "--port", str(self.port), "--artifacts-destination", str(self.folder / "artifacts")]  # fmt: skip
        environment = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        if self.auth:
            words += ["--app-name", "basic-auth"]
            config = self.folder / "basic_auth.ini"
            config.write_text(
                "[mlflow]\ndefault_permission = READ\n"
                f"database_uri = sqlite:///{self.folder}/basic_auth.db\n"
                "admin_username = admin\nadmin_password = correct-horse-battery\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
            environment |= {
                "MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "for tests",
                "MLFLOW_AUTH_ADMIN_PASSWORD": "correct-horse-battery",
            }  # fmt: skip
        log = open(self.folder / "server.log", "a")  # noqa: SIM115
        self.process = subprocess.Popen(
            words, env=environment, stdout=log, stderr=log, start_new_session=True, cwd=self.folder
        )
        wait_for(self.answers, 150, f"no server: {(self.folder / 'server.log').read_text()[-2000:]}")

    def answers(self) -> bool:
        import urllib.error
        import urllib.request

        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def stop(self, signum: int = signal.SIGKILL) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signum)
            self.process.wait(30)
            self.process = None


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a fresh PostgreSQL database; skipped where PostgreSQL is not installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").exists() else []
    if not found:
        pytest.skip("no PostgreSQL here: apt-get install postgresql")
    folder = tmp_path_factory.mktemp("postgresql")
    data, port = folder / "data", free_port()
    for parent in (folder, *folder.parents):
        with contextlib.suppress(OSError):
            parent.chmod(parent.stat().st_mode | 0o055)
    as_user: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    subprocess.run([*as_user, found[-1] / "initdb", "-D", data, "-A", "trust", "-U", "mlflow"], check=True,
                   capture_output=True, cwd=folder)  # fmt: skip
    server = subprocess.Popen(
        [*as_user, found[-1] / "postgres", "-D", data, "-p", str(port), "-k", folder, "-h", "127.0.0.1"],
        stderr=subprocess.DEVNULL, cwd=folder,
    )  # fmt: skip
    try:
        ready = [found[-1] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready, capture_output=True).returncode == 0, 60, "no PostgreSQL")
        create = [found[-1] / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "mlflow", "mlflow"]
        subprocess.run(create, check=True, capture_output=True)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/mlflow"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


# -- a browser ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The system's Chromium, headless; the test is skipped where there is none."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()
