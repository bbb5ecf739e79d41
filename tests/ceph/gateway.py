"""Ceph's S3 gateway out of Debian's packages, without installing them: one monitor, one OSD in memory, one gateway.

It checks keys, signatures and headers the way S3 does, which the in-process stand-ins do not. The packages are fetched
with apt and unpacked into a cache folder; everything else lives in a temporary folder and dies with the process that
started it.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from debian import unpacked

PACKAGES = ["ceph-mon", "ceph-osd", "radosgw"]
START_SECONDS = 90

CONF = """
[global]
fsid = {fsid}
mon host = [v2:127.0.0.1:{mon_port}]
mon initial members = a
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {work}
admin socket = {work}/$cluster-$name.asok
log file = {work}/$name.log
pid file = {work}/$name.pid
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon osd full ratio = .99
mon data = {work}/mon
ms bind ipv4 = true
[osd.0]
osd data = {work}/osd
keyring = {work}/osd/keyring
osd objectstore = memstore
memstore device bytes = 4294967296
osd class dir = {lib}/rados-classes
osd class load list = *
osd class default list = *
[client.admin]
keyring = {work}/admin.keyring
[client.rgw.a]
keyring = {work}/rgw.keyring
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
"""


@contextmanager
def gateway() -> Iterator[dict[str, str]]:
    """Start it; yields the ``AWS_*`` variables with which to reach it.

    Raises:
        RuntimeError: it did not come up; the end of the logs is in the message.
    """
    root = unpacked("ceph", *PACKAGES)
    work = Path(tempfile.mkdtemp(prefix="reasonembed-ceph-"))
    running: list[subprocess.Popen[bytes]] = []
    try:
        yield _start(root, work, running)
    finally:
        for process in reversed(running):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(work, ignore_errors=True)


def _start(root: Path, work: Path, running: list[subprocess.Popen[bytes]]) -> dict[str, str]:
    lib = root / "usr/lib/x86_64-linux-gnu"
    (work / "mon").mkdir()
    (work / "osd").mkdir()
    mon_port, port = _free_port(), _free_port()
    fsid = str(uuid.uuid4())
    conf = work / "ceph.conf"
    conf.write_text(CONF.format(fsid=fsid, mon_port=mon_port, port=port, work=work, lib=lib))
    env = {
        **os.environ,
        "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{lib}:{lib}/ceph:{root}/lib/x86_64-linux-gnu",
        "CEPH_CONF": str(conf),
    }

    def run(*command: str) -> None:
        done = subprocess.run(command, env=env, cwd=work, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def keyring(name: str, file: str, *caps: str) -> None:
        flags = [part for cap in caps for part in ("--cap", *cap.split(" ", 1))]
        run("ceph-authtool", "--create-keyring", file, "--gen-key", "-n", name, *flags)
        if file != "mon.keyring":
            run("ceph-authtool", "mon.keyring", "--import-keyring", file)

    keyring("mon.", "mon.keyring", "mon allow *")
    keyring("client.admin", "admin.keyring", "mon allow *", "osd allow *", "mgr allow *")
    keyring("osd.0", "osd/keyring", "mon allow profile osd", "osd allow *", "mgr allow profile osd")
    keyring("client.rgw.a", "rgw.keyring", "mon allow rw", "osd allow rwx")
    run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", f"[v2:127.0.0.1:{mon_port}]", "monmap")
    run("osdmaptool", "--createsimple", "1", "osdmap")
    run("ceph-mon", "-i", "a", "--mkfs", "--monmap", "monmap", "--osdmap", "osdmap", "--keyring", "mon.keyring")
    _spawn(running, env, work, "ceph-mon", "-i", "a", "-f")
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
    _spawn(running, env, work, "ceph-osd", "-i", "0", "-f")
    _spawn(running, env, work, "radosgw", "-n", "client.rgw.a", "-f")
    endpoint = f"http://127.0.0.1:{port}"
    end = time.time() + START_SECONDS
    while True:
        try:
            requests.get(endpoint, timeout=2)
            break
        except requests.RequestException:
            if time.time() > end or any(process.poll() is not None for process in running):
                logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(work.glob("*.log")))
                raise RuntimeError(f"Ceph's gateway did not start:\n{logs}") from None
            time.sleep(0.2)
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    user = ["user", "create", "--uid", "tester", "--display-name", "tester"]
    run("radosgw-admin", "-n", "client.admin", *user, "--access-key", key, "--secret", secret)
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        # Without these two newer SDKs send checksums as trailers, which this gateway answers with HTTP 411.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


def _spawn(running: list[subprocess.Popen[bytes]], env: dict[str, str], work: Path, *command: str) -> None:
    output = (work / f"{command[0]}.out.log").open("wb")
    running.append(subprocess.Popen(command, env=env, cwd=work, stdout=output, stderr=output))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
