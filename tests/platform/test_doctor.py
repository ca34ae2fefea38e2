"""The doctor says what is wrong and how to mend it, and changes nothing."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from subledger.hosts import doctor
from subledger.platform import migrate, postgres, settings
from subledger.platform.settings import InvalidSettings, Settings
from tests.postgres import by_tcp
from tests.servers import free_port


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that the server's user can pass."""
    with tempfile.TemporaryDirectory(prefix="subledger-doctor-") as folder:
        os.chmod(folder, 0o711)
        yield Path(folder).resolve()


@pytest.fixture
def bare(place: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Nothing but a data folder that does not exist yet, and a free port."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"SUBLEDGER_{name.upper()}", raising=False)
    return Settings(data_dir=place / "data", port=free_port())


async def found(chosen: Settings, subject: str) -> doctor.Finding:
    """The one finding on a subject."""
    (finding,) = [each for each in await doctor.examine(chosen) if each.subject == subject]
    return finding


async def test_a_fresh_machine_is_ready_and_stays_as_it_was(bare, place, capsys):
    assert await doctor.run(bare) == 0

    assert "Ready to run" in capsys.readouterr().out
    assert list(place.iterdir()) == []
    folder = await found(bare, "data folder")
    assert folder == doctor.Finding("ok", "data folder", f"{place}/data, made at the first start")


async def test_a_running_embedded_server_is_asked(bare):
    async with await postgres.start(bare.folder()) as server:
        running = await found(bare, "embedded")
    assert running.verdict == "ok"
    assert f"pid {server.pid}" in running.said
    stopped = await found(bare, "embedded")
    assert stopped.said == "stopped; serve, demo and worker start it"


async def test_a_taken_port_is_wrong(bare, capsys):
    with socket.create_server((bare.host, bare.port)):
        port = await found(bare, "port")
        assert await doctor.run(bare) == 1
    assert port.verdict == "fail"
    assert port.said == f"127.0.0.1:{bare.port}: Address already in use"
    assert port.fix == "Stop whoever listens there, or set SUBLEDGER_PORT to a free port."
    assert "1 wrong" in capsys.readouterr().out


async def test_an_address_of_another_machine_is_wrong(bare):
    port = await found(bare.model_copy(update={"host": "192.0.2.1"}), "port")
    assert (port.verdict, port.fix) == (
        "fail",
        "Set SUBLEDGER_HOST to an address of this machine.",
    )


async def test_a_path_too_long_for_a_socket_is_said_and_no_problem(bare, place):
    said = await found(bare.model_copy(update={"data_dir": place / ("x" * 120)}), "socket")
    assert said.verdict == "ok"
    assert "has a space or is over 107 bytes" in said.said


async def test_a_data_folder_that_is_a_file_is_wrong(bare, place):
    (place / "data").write_text("")
    folder = await found(bare, "data folder")
    assert (folder.verdict, folder.said) == ("fail", f"{place}/data is not a folder")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
async def test_a_private_folder_on_the_way_is_wrong_for_root(bare, place):
    place.chmod(0o700)
    folder = await found(bare, "data folder")
    assert folder.verdict == "fail"
    assert f"cannot pass {place}" in folder.said
    assert "/var/lib/subledger" in folder.fix


async def test_data_of_another_version_are_wrong(bare, place):
    async with await postgres.start(bare.folder()) as server:
        pass
    (server.data_dir / "PG_VERSION").write_text("14\n")
    programs = await found(bare, "programs")
    assert programs.verdict == "fail"
    assert programs.said.endswith("but the data were written by PostgreSQL 14")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes network namespaces")
def test_without_a_network_all_is_well_after_the_installation(place):
    environment = {**os.environ, "SUBLEDGER_DATA_DIR": str(place / "data")}
    environment["SUBLEDGER_PORT"] = str(free_port())
    alone = 'ip link set lo up 2>/dev/null; exec "$0" -m subledger.hosts.cli doctor'
    ran = subprocess.run(
        ["unshare", "-n", "sh", "-c", alone, sys.executable],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "unshare failed" in ran.stderr:
        pytest.skip("no right to make network namespaces here")
    assert "none; not needed once installed" in ran.stdout


async def test_a_given_database_and_its_service_role_are_asked(bare, database_url, secret_key):
    url = by_tcp(database_url)
    given = bare.model_copy(
        update={"database_url": SecretStr(url), "secret_key": SecretStr(secret_key)}
    )
    findings = await doctor.examine(given)
    parsed = make_url(url)
    said = [each.said for each in findings if each.subject == "database"]
    assert len(said) == 1
    assert said[0].startswith(f"postgres@127.0.0.1:{parsed.port}/{parsed.database}: PostgreSQL ")
    assert {each.verdict for each in findings if each.subject == "service role"} == {"ok"}
    assert not [each for each in findings if (parsed.password or "") in each.said + each.fix]


async def test_a_database_behind_a_socket_is_named_by_its_folder(bare, tmp_path):
    url = f"postgresql+asyncpg://postgres:x@/shop?host={tmp_path}&port=5433"
    given = bare.model_copy(update={"service_urls": {"billing": SecretStr(url)}})

    nobody = await found(given, "billing")

    assert nobody.said.startswith(f"postgres@{tmp_path}:5433/shop: ")
    assert nobody.fix == "Start the server, and check host, port and firewall."


async def test_a_service_that_would_be_superuser_is_wrong(bare, database_url, secret_key):
    given = bare.model_copy(
        update={
            "service_urls": {"billing": SecretStr(database_url)},
            "secret_key": SecretStr(secret_key),
        }
    )
    failed = [each for each in await doctor.examine(given) if each.verdict == "fail"]
    assert [each.subject for each in failed] == ["billing"]
    assert "must not log in as superuser" in failed[0].said


async def test_what_keeps_a_database_out_of_reach_is_told_apart(bare, database_url):
    nobody = make_url(by_tcp(database_url, port=free_port()))
    other_name = make_url(database_url).set(database="no_such_database")
    wrong_password = make_url(migrate.service_url(database_url, "billing", "another key"))
    fixes = {}
    for name, url in (("port", nobody), ("name", other_name), ("password", wrong_password)):
        secret = SecretStr(url.render_as_string(False))
        given = bare.model_copy(update={"service_urls": {"billing": secret}})
        fixes[name] = (await found(given, "billing")).fix
    assert fixes == {
        "port": "Start the server, and check host, port and firewall.",
        "name": "Create the database: createdb NAME.",
        "password": (
            "Run subledger migrate with the same SUBLEDGER_SECRET_KEY; it sets the password."
        ),
    }


async def test_a_database_without_a_secret_key_is_wrong(bare, database_url):
    given = bare.model_copy(update={"database_url": SecretStr(database_url)})
    key = await found(given, "secret key")
    assert (key.verdict, key.said) == ("fail", "a database is set, but no secret key")


async def test_a_misspelt_variable_is_pointed_out(bare, monkeypatch):
    monkeypatch.setenv("SUBLEDGER_PROT", "8081")
    slip = await found(bare, "settings")
    assert (slip.verdict, slip.said) == ("warn", "SUBLEDGER_PROT is set, and nothing reads it")


# --- settings ------------------------------------------------------------------------------------


def test_every_wrong_variable_is_named_and_no_secret_shown(monkeypatch):
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", "mysql://me:hunter2@db/shop")
    monkeypatch.setenv("SUBLEDGER_SERVICE_URLS", '{"billing": "hunter2')
    monkeypatch.setenv("SUBLEDGER_PORT", "99999")
    with pytest.raises(InvalidSettings) as refused:
        settings.load()
    assert str(refused.value).splitlines() == [
        "wrong settings",
        "  SUBLEDGER_DATABASE_URL: a database URL begins with postgresql://",
        '  SUBLEDGER_SERVICE_URLS: a JSON object is needed: {"billing": "postgresql://…"}',
        "  SUBLEDGER_PORT: Input should be less than or equal to 65535",
    ]


@pytest.mark.parametrize("given", ["hunter2-new, hunter2-old", '["hunter2-new", "hunter2-old"]'])
def test_urls_of_other_tools_are_understood_and_hidden(monkeypatch, given):
    monkeypatch.setenv("SUBLEDGER_DATABASE_URL", "postgres://me:hunter2@db/shop?sslmode=require")
    monkeypatch.setenv("SUBLEDGER_SERVICE_URLS", '{"billing": "postgresql://b:hunter2@db/b"}')
    monkeypatch.setenv("SUBLEDGER_ENCRYPTION_KEYS", given)
    loaded = settings.load()
    assert loaded.database_url is not None
    assert loaded.database_url.get_secret_value() == (
        "postgresql+asyncpg://me:hunter2@db/shop?ssl=require"
    )
    assert loaded.service_urls["billing"].get_secret_value() == (
        "postgresql+asyncpg://b:hunter2@db/b"
    )
    keys = [each.get_secret_value() for each in loaded.encryption_keys]
    assert keys == ["hunter2-new", "hunter2-old"]
    assert "hunter2" not in repr(loaded) + str(loaded)


def test_a_url_for_an_unknown_service_is_refused(monkeypatch):
    monkeypatch.setenv("SUBLEDGER_SERVICE_URLS", '{"biling": "postgresql://b@db/b"}')
    with pytest.raises(InvalidSettings, match="SUBLEDGER_SERVICE_URLS: no service biling"):
        settings.load()
