"""Ceph's S3 gateway from Debian's packages, which are not installed: one monitor, one OSD in memory, one gateway.

It checks keys, signatures and headers as S3 does; moto does not. The packages are downloaded with apt and unpacked into
a cache folder. All other files are in a temporary folder, which is removed at the end.
"""

import os
import secrets
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from debian import unpacked
from processes import free_port, kill, responds, start_process

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
run dir = {folder}
admin socket = {folder}/$cluster-$name.asok
log file = {folder}/$name.log
pid file = {folder}/$name.pid
plugin dir = {lib}/ceph
erasure code dir = {lib}/ceph/erasure-code
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd crush chooseleaf type = 0
mon allow pool size one = true
mon osd full ratio = .99
mon data = {folder}/mon
ms bind ipv4 = true
[osd.0]
osd data = {folder}/osd
keyring = {folder}/osd/keyring
osd objectstore = memstore
memstore device bytes = 4294967296
osd class dir = {lib}/rados-classes
osd class load list = *
osd class default list = *
[client.admin]
keyring = {folder}/admin.keyring
[client.rgw.a]
keyring = {folder}/rgw.keyring
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 32
"""


@contextmanager
def running_gateway() -> Iterator[dict[str, str]]:
    """Runs the gateway; yields the ``AWS_*`` variables of its clients.

    Raises:
        RuntimeError: the gateway did not start; the message holds the end of its logs.
    """
    root = unpacked("ceph", *PACKAGES)
    folder = Path(tempfile.mkdtemp(prefix="reasonembed-ceph-"))
    processes: list[subprocess.Popen[str]] = []
    try:
        yield _start(root, folder, processes)
    finally:
        for process in reversed(processes):
            kill(process)
        shutil.rmtree(folder, ignore_errors=True)


def _start(root: Path, folder: Path, processes: list[subprocess.Popen[str]]) -> dict[str, str]:
    lib = root / "usr/lib/x86_64-linux-gnu"
    (folder / "mon").mkdir()
    (folder / "osd").mkdir()
    mon_port, port = free_port(), free_port()
    fsid = str(uuid.uuid4())
    conf = folder / "ceph.conf"
    conf.write_text(CONF.format(fsid=fsid, mon_port=mon_port, port=port, folder=folder, lib=lib))
    env = {
        **os.environ,
        "PATH": f"{root}/usr/bin:{root}/usr/sbin:{os.environ['PATH']}",
        "LD_LIBRARY_PATH": f"{lib}:{lib}/ceph:{root}/lib/x86_64-linux-gnu",
        "CEPH_CONF": str(conf),
    }

    def run(*command: str) -> None:
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")

    def start(*command: str) -> None:
        output = (folder / f"{command[0]}.out.log").open("w")
        processes.append(start_process(command, output, output, env, folder))

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
    start("ceph-mon", "-i", "a", "-f")
    run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
    start("ceph-osd", "-i", "0", "-f")
    start("radosgw", "-n", "client.rgw.a", "-f")
    endpoint = f"http://127.0.0.1:{port}"
    end = time.time() + START_SECONDS
    while not responds(endpoint):
        if time.time() > end or any(process.poll() is not None for process in processes):
            logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))
            raise RuntimeError(f"Ceph's gateway did not start:\n{logs}")
        time.sleep(0.2)
    key, secret = secrets.token_hex(10), secrets.token_hex(20)
    user = ["user", "create", "--uid", "tester", "--display-name", "tester"]
    run("radosgw-admin", "-n", "client.admin", *user, "--access-key", key, "--secret", secret)
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        # Otherwise newer SDKs send checksums as trailers, and this gateway answers those requests with HTTP 411.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }
