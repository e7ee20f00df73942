"""Start a Redis or a PostgreSQL on loopback for the duration of a block, from the programs that Debian installs.

Each server starts empty and leaves no data behind.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SECONDS_TO_START = 30


class NotInstalledError(Exception):
    """The program of a server is not installed; the message names its package."""


@contextmanager
def redis() -> Iterator[str]:
    """Start a Redis that keeps everything in memory; yield its `host:port`."""
    program = _program("redis-server", "redis-server")
    port = _free_port()
    with _running([program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""], port):
        yield f"127.0.0.1:{port}"


@contextmanager
def postgresql() -> Iterator[str]:
    """Start a PostgreSQL with one empty database; yield its SQLAlchemy URL."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    path = os.pathsep.join([*map(str, reversed(newest)), os.environ.get("PATH", "")])
    programs = {name: _program(name, "postgresql", path) for name in ("initdb", "postgres")}
    # PostgreSQL refuses to run as root; its package creates a user for it.
    owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as data:
        if owner:
            shutil.chown(data, "postgres")
        subprocess.run(
            [*owner, programs["initdb"], "-D", data, "-U", "instructue", "-A", "trust", "-E", "UTF8"],
            check=True,
            capture_output=True,
            cwd="/",
        )
        port = _free_port()
        with _running(
            [*owner, programs["postgres"], "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"], port
        ):
            yield f"postgresql+psycopg://instructue@127.0.0.1:{port}/postgres"


def _program(name: str, package: str, path: str | None = None) -> str:
    program = shutil.which(name, path=path)
    if program is None:
        raise NotInstalledError(f"{name} is not installed (Debian and Ubuntu: {package})")
    return program


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], port: int) -> Iterator[None]:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
    try:
        _wait(process, port)
        yield
    finally:
        process.terminate()
        process.wait()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} does not answer on port {port}")
