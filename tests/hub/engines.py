"""Real databases and a real S3 store for the tests: private, on ports of their own, gone afterwards.

PostgreSQL is Debian's `postgresql`: a cluster made by initdb as a user that is not root. S3 is OpenStack Swift with its s3api middleware, also from
Debian: one proxy, one object, container and account server, one replica.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

SWIFT = (
    "swift-proxy-server",
    "swift-object-server",
    "swift-container-server",
    "swift-account-server",
    "swift-ring-builder",
    "memcached",
)


def postgres_programs() -> Path | None:
    """Where initdb and postgres are; Debian keeps them out of PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found and (os.geteuid() != 0 or _is_user("postgres")):
        return found[-1].parent
    return None


def has_swift() -> bool:
    return all(shutil.which(name) for name in SWIFT)


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    end_s = time.monotonic() + 120
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        assert process.poll() is None and time.monotonic() < end_s, log.read_text(errors="replace")[-3000:]
        time.sleep(0.1)


@contextlib.contextmanager
def _folder(user: str) -> Iterator[Path]:
    """Outside of pytest's, which only their owner may enter."""
    folder = Path(tempfile.mkdtemp(prefix="nvr-test-"))
    try:
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, user)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Postgres:
    """One cluster; each test's hub has a database of its own in it."""

    def __init__(self, programs: Path, folder: Path, user: str) -> None:
        self._programs, self._folder, self._user = programs, folder, user
        self.port = free_port()
        self._databases = 0
        self.process: subprocess.Popen[bytes] | None = None

    def _options(self) -> dict[str, object]:
        return (
            {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )

    def start(self) -> None:
        data = self._folder / "data"
        if not data.exists():
            subprocess.run(
                [self._programs / "initdb", "-D", data, "-U", "hub", "-A", "trust", "-E", "UTF8", "--no-locale"],
                check=True, capture_output=True, cwd=self._folder, **self._options(),  # type: ignore[call-overload]
            )  # fmt: skip
        log = self._folder / "log"
        self.process = subprocess.Popen(
            [self._programs / "postgres", "-D", data, "-c", f"port={self.port}", "-c", "listen_addresses=127.0.0.1", "-c",
             f"unix_socket_directories={self._folder}", "-c", "max_connections=200"],
            stdout=subprocess.DEVNULL, stderr=open(log, "ab"), cwd=self._folder, **self._options(),  # type: ignore[call-overload]
        )  # fmt: skip
        _wait_for_port(self.port, self.process, log)
        _retry(lambda: self._sql("SELECT 1"))

    def _sql(self, text: str) -> None:
        subprocess.run(
            [self._programs / "psql", "-h", "127.0.0.1", "-p", str(self.port), "-U", "hub", "-d", "postgres", "-qc", text],
            check=True, capture_output=True,
        )  # fmt: skip

    def database(self) -> str:
        """The address of a new, empty one."""
        self._databases += 1
        name = f"hub{self._databases}"
        self._sql(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://hub@127.0.0.1:{self.port}/{name}"

    def stop(self, signal_number: int = signal.SIGINT) -> None:
        if self.process is not None:
            self.process.send_signal(signal_number)
            self.process.wait(timeout=60)


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    programs = postgres_programs()
    assert programs is not None
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    with _folder(user) as folder:
        cluster = Postgres(programs, folder, user)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def _retry(work: Callable[[], object]) -> None:
    for _ in range(100):
        try:
            work()
            return
        except Exception:
            time.sleep(0.2)
    work()


class Swift:
    """A store that speaks S3, with one user. `environment` is what a hub needs to enter."""

    def __init__(self, folder: Path, user: str) -> None:
        self._folder, self._user = folder, user
        self.port = free_port()
        self.environment = {
            "AWS_ACCESS_KEY_ID": "test:tester",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self._buckets = 0

    def start(self) -> None:
        folder = self._folder
        ports = {name: free_port() for name in ("account", "container", "object", "memcached")}
        (folder / "devices" / "d1").mkdir(parents=True)
        for name in ("account", "container", "object"):
            for words in (["create", "4", "1", "0"], ["add", f"r1z1-127.0.0.1:{ports[name]}/d1", "1"], ["rebalance"]):
                subprocess.run(
                    ["swift-ring-builder", folder / f"{name}.builder", *words],
                    check=True,
                    capture_output=True,
                    cwd=folder,
                )
            (folder / f"{name}.conf").write_text(
                f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {ports[name]}\ndevices = {folder}/devices\nmount_check = false\n"
                f"swift_dir = {folder}\nuser = {self._user}\nworkers = 0\nlog_level = WARNING\nlog_facility =\nfallocate_reserve = 0\n"
                f"[pipeline:main]\npipeline = {name}-server\n[app:{name}-server]\nuse = egg:swift#{name}\n"
            )
        (folder / "proxy.conf").write_text(
            f"[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = {self.port}\nswift_dir = {folder}\nuser = {self._user}\nworkers = 0\n"
            "log_level = WARNING\nlog_facility =\n"
            "[pipeline:main]\npipeline = catch_errors gatekeeper cache bulk s3api tempauth slo dlo proxy-server\n"
            "[app:proxy-server]\nuse = egg:swift#proxy\naccount_autocreate = true\nnode_timeout = 60\n"
            "[filter:catch_errors]\nuse = egg:swift#catch_errors\n[filter:gatekeeper]\nuse = egg:swift#gatekeeper\n"
            f"[filter:cache]\nuse = egg:swift#memcache\nmemcache_servers = 127.0.0.1:{ports['memcached']}\n[filter:bulk]\nuse = egg:swift#bulk\n"
            "[filter:s3api]\nuse = egg:swift#s3api\nlocation = us-east-1\nmin_segment_size = 5242880\n"
            "[filter:tempauth]\nuse = egg:swift#tempauth\nuser_test_tester = testing .admin\n"
            "[filter:slo]\nuse = egg:swift#slo\n[filter:dlo]\nuse = egg:swift#dlo\n"
        )
        if os.geteuid() == 0:
            subprocess.run(["chown", "-R", self._user, folder], check=True)
        self._run(
            ["memcached", "-l", "127.0.0.1", "-p", str(ports["memcached"]), "-u", self._user],
            ports["memcached"],
            "memcached",
        )
        for name in ("account", "container", "object"):
            self._run([f"swift-{name}-server", str(folder / f"{name}.conf")], ports[name], name)
        self._run(["swift-proxy-server", str(folder / "proxy.conf")], self.port, "proxy")

    def _run(self, command: list[str], port: int, name: str) -> None:
        log = self._folder / f"{name}.log"
        more = (
            {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
            if os.geteuid() == 0
            else {}
        )
        # Debian's Python has swift; the virtual environment's would not.
        clean = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(self._folder)}
        process = subprocess.Popen(
            command, stdout=open(log, "ab"), stderr=subprocess.STDOUT, env=clean, cwd=self._folder, **more
        )  # type: ignore[call-overload]
        self._processes.append(process)
        _wait_for_port(port, process, log)

    def bucket(self) -> str:
        """The address of a new, empty one, as the setting `objects` has it."""
        import boto3

        self._buckets += 1
        name, endpoint = f"hub{self._buckets}", f"http://127.0.0.1:{self.port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        _retry(lambda: client.create_bucket(Bucket=name))
        return f"s3://{name}/city?endpoint={endpoint}&region=us-east-1"

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def swift() -> Iterator[Swift]:
    user = "swift" if os.geteuid() == 0 and _is_user("swift") else getpass.getuser()
    with _folder(user) as folder:
        store = Swift(folder, user)
        try:
            store.start()
            yield store
        finally:
            store.stop()


if __name__ == "__main__":  # `python -m tests.hub.engines`: are they there, do they start
    with postgres() as base:
        print("postgresql:", base.database())
    with swift() as store:
        print("s3:", store.bucket(), file=sys.stdout)
