"""A PostgreSQL and a Redis on free ports and in a temporary folder, for as long as they are needed."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

START_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def programs() -> Path:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    found = installed[-1] if installed else shutil.which("initdb")
    if not found:
        raise SystemExit("PostgreSQL is needed: run scripts/tools.sh")
    return Path(found).parent


@contextlib.contextmanager
def running():
    """Their addresses, as the secrets of a pod have them."""
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as started:
        folder = Path(name)
        os.chmod(folder, 0o755)
        database_port, redis_port = free_port(), free_port()
        data = folder / "postgres"
        data.mkdir()
        rights = []
        if os.geteuid() == 0:
            # It does not run as root.
            shutil.chown(data, "postgres", "postgres")
            rights = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        where = {"cwd": data, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        init = [programs() / "initdb", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-D", data / "d"]
        subprocess.run([*rights, *init], check=True, **where)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", str(database_port)]
        start(started, [*rights, programs() / "postgres", "-D", data / "d", *options], **where)
        redis = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
        start(started, redis, stdout=subprocess.DEVNULL)
        ask = [programs() / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(database_port), "-U", "postgres"]
        until(lambda: subprocess.run(ask, check=False).returncode == 0)
        until(lambda: answers(redis_port))
        yield {
            "database_url": f"postgres://postgres@127.0.0.1:{database_port}/postgres?sslmode=disable",
            "redis_url": f"redis://127.0.0.1:{redis_port}",
        }


def start(started: contextlib.ExitStack, command: list, **how) -> None:
    process = subprocess.Popen(command, **how)
    started.callback(process.wait)
    started.callback(process.terminate)


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def until(holds) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit("PostgreSQL and Redis did not start")
        time.sleep(0.1)
