"""The servers and the supervisor of `moderation up`, with small stand-ins for our own processes.

What is waited for comes at once; `PATIENCE` is how long a machine may stall meanwhile.
"""

import io
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa
from redis import Redis
from rich.console import Console

from moderation.embedded import Broker, EmbeddedError, Postgres, identity, instance, up
from moderation.embedded.postgres import programs
from moderation.embedded.process import SOCKET_PATH_BYTES, spawn, wait_until
from moderation.embedded.screen import Screen
from moderation.embedded.supervisor import Child, Interrupts, Supervisor

PATIENCE = 60.0


def scalar(server, database, statement):
    engine = sa.create_engine(server.url(database), poolclass=sa.NullPool)
    with engine.begin() as connection:
        result = connection.execute(sa.text(statement))
        return result.scalar() if result.returns_rows else None


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def gone(pid):
    """Ended, or a zombie that nobody here can bury."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    with Postgres(tmp_path_factory.mktemp("servers") / "postgres") as server:
        yield server


class TestPostgres:
    def test_databases_are_apart_and_checksummed(self, postgres):
        for name in ("moderation", "keystore", "moderation"):
            postgres.create_database(name)
        assert scalar(postgres, "keystore", "SELECT current_database()") == "keystore"
        assert scalar(postgres, "moderation", "SHOW data_checksums") == "on"
        assert scalar(postgres, "moderation", "SHOW server_encoding") == "UTF8"

    def test_nothing_listens_on_a_network(self, postgres):
        assert scalar(postgres, "postgres", "SHOW listen_addresses") == ""
        assert mode(postgres.run) == mode(postgres.data) == 0o700

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_strangers_are_refused(self, postgres):
        """The kernel says who connects: even the server's own user, who owns the socket, is nobody to it."""
        code = (
            "import os, socket, sys\n"
            "os.chdir(sys.argv[1]); os.setgroups([]); os.setgid(int(sys.argv[3])); os.setuid(int(sys.argv[2]))\n"
            "client = socket.socket(socket.AF_UNIX); client.connect('.s.PGSQL.5432')\n"
            "hello = (196608).to_bytes(4, 'big') + b'user\\0moderation\\0database\\0postgres\\0\\0'\n"
            "client.sendall((len(hello) + 4).to_bytes(4, 'big') + hello); print(client.recv(1000))"
        )
        who = postgres.identity
        command = [sys.executable, "-c", code, str(postgres.run), str(who.uid), str(who.gid)]
        answer = subprocess.run(command, capture_output=True, text=True)
        assert "Peer authentication failed" in answer.stdout, answer.stderr

    def test_refused_rows_are_not_logged(self, postgres):
        """Content would be in DETAIL and STATEMENT lines (commitment 5: the log holds none)."""
        scalar(
            postgres, "postgres", "CREATE TABLE IF NOT EXISTS posts (body text CHECK (body <> 'canary-7421'))"
        )
        with pytest.raises(sa.exc.IntegrityError):
            scalar(postgres, "postgres", "INSERT INTO posts VALUES ('canary-7421')")
        log = postgres.log.read_text()
        assert "violates check constraint" in log
        assert "canary-7421" not in log

    def test_committed_rows_survive_a_crash(self, postgres):
        scalar(postgres, "postgres", "CREATE TABLE kept (n int)")
        scalar(postgres, "postgres", "INSERT INTO kept VALUES (42)")
        postgres.kill()
        assert not postgres.alive
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host=str(postgres.sockets), dbname="postgres", user="moderation")
        postgres.start()
        assert scalar(postgres, "postgres", "SELECT n FROM kept") == 42
        postgres.restart()
        assert scalar(postgres, "postgres", "SELECT n FROM kept") == 42

    def test_pid_file_of_a_crash_in_a_container_is_not_believed(self, postgres):
        """There the dead server's pid soon belongs to another program, which must not be ended either."""
        postgres.stop()
        user = postgres.data.stat().st_uid if os.geteuid() == 0 else None
        with subprocess.Popen(["/bin/sleep", "600"], user=user) as bystander:
            try:
                (postgres.data / "postmaster.pid").write_text(
                    f"{bystander.pid}\n{postgres.data}\n0\n5432\n\n\n1 1\nready\n"
                )
                postgres.start()
                assert postgres.alive
                assert bystander.poll() is None
            finally:
                bystander.kill()

    @pytest.mark.parametrize("name", ["Upper", 'quo"te', "", "a-b"])
    def test_odd_names_are_refused(self, postgres, name):
        with pytest.raises(EmbeddedError, match="no name for a database"):
            postgres.create_database(name)

    def test_files_of_another_version_are_refused(self, tmp_path):
        server = Postgres(tmp_path)
        server.data.mkdir()
        (server.data / "PG_VERSION").write_text("14\n")
        with pytest.raises(EmbeddedError, match="written by PostgreSQL 14"):
            server.start()

    def test_a_failed_start_tells_what_the_log_says(self, tmp_path):
        server = Postgres(tmp_path)
        with server:
            pass
        server.stop_seconds = 0.2  # for so long is it tried again
        (server.data / "global" / "pg_control").unlink()
        with pytest.raises(EmbeddedError, match=r"(?s)PostgreSQL did not start.*pg_control"):
            server.start()
        assert not server.alive


class TestBroker:
    def test_keeps_what_it_has_and_never_evicts(self, tmp_path):
        with Broker(tmp_path / "broker") as broker:
            broker.stop_seconds = PATIENCE  # one that is ended by force may lose what is not on disk
            client = Redis.from_url(broker.url)
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
            assert client.config_get("port") == {"port": "0"}
            client.set("job", "1")
            broker.restart()
            assert client.get("job") == b"1"
            client.close()
        assert mode(tmp_path / "broker") == 0o700

    def test_starts_again_after_a_crash(self, tmp_path):
        with Broker(tmp_path) as broker:
            broker.kill()
            broker.start()
            client = Redis.from_url(broker.url)
            assert client.ping()
            client.close()


@pytest.mark.parametrize("name", ["d" * (SOCKET_PATH_BYTES + 20), "with, comma", "space %41 ' é"])
def test_any_path_will_do(tmp_path, name):
    """Names of sockets are limited to 107 bytes, and libpq splits hosts at commas."""
    with Postgres(tmp_path / name / "pg") as server, Broker(tmp_path / name / "broker") as broker:
        assert scalar(server, "postgres", "SELECT 1") == 1
        client = Redis.from_url(broker.url)
        assert client.ping()
        client.close()
        links = {
            path
            for path, real in ((server.sockets, server.run), (broker.sockets, broker.directory))
            if path != real
        }
        assert bool(links) == (name[0] != "s")
    assert not any(os.path.lexists(link) for link in links)


def test_a_link_in_the_way_is_not_followed(tmp_path):
    server = Broker(tmp_path / ("d" * SOCKET_PATH_BYTES))
    server.prepare()
    server.sockets.unlink()
    server.sockets.symlink_to(tmp_path)
    try:
        with pytest.raises(EmbeddedError, match="is in the way"):
            server.start()
    finally:
        server.sockets.unlink()


def test_servers_die_with_their_parent(tmp_path):
    """Even when it is killed and can't say goodbye."""
    code = (
        "import sys, time; from pathlib import Path; from moderation.embedded import Postgres, Broker\n"
        "d = Path(sys.argv[1]); p = Postgres(d / 'p'); b = Broker(d / 'b'); p.start(); b.start()\n"
        "print(p.process.pid, b.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    with parent:
        try:
            pids = [int(word) for word in parent.stdout.readline().split()]
        finally:
            parent.kill()
    assert len(pids) == 2
    try:
        assert wait_until(lambda: all(map(gone, pids)), PATIENCE)
    finally:
        for pid in pids:
            if not gone(pid):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become somebody else")
class TestIdentity:
    def test_a_closed_parent_costs_one_capability_and_an_open_one_none(self, tmp_path, monkeypatch):
        for file in ("bin/postgres", "share/postgres.bki"):
            (tmp_path / file).parent.mkdir(parents=True)
            (tmp_path / file).touch(0o755)
        tmp_path.chmod(0o700)
        closed = identity.choose(tmp_path / "data", tmp_path, tmp_path)
        assert closed.capability == identity.CAP_DAC_READ_SEARCH
        monkeypatch.setattr(identity, "_unreachable", lambda *_: None)
        assert identity.choose(tmp_path / "data", tmp_path, tmp_path).capability is None

    def test_what_can_not_be_reached_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(identity, "_permitted", lambda: 0)
        tmp_path.chmod(0o700)
        with pytest.raises(EmbeddedError, match=r"may not enter .* chmod o\+x"):
            identity.choose(tmp_path / "data", tmp_path, tmp_path)

    def test_way_is_judged_step_by_step(self, tmp_path):
        entry = identity._entry(tmp_path / "data")
        assert identity._unreachable(Path("/usr/share"), entry) is None
        assert identity._unreachable(Path("/proc/1/environ"), entry) is not None

    def test_programs_and_data_in_a_closed_directory_are_served(self, tmp_path, monkeypatch):
        """As in a checkout below /root. PostgreSQL asks access(2) about itself, which has a mind of its own."""
        wheel = programs().parent
        for folder in (wheel, wheel.with_name(wheel.name + ".libs")):
            if folder.exists():
                shutil.copytree(folder, tmp_path / "venv" / folder.name)
        tmp_path.chmod(0o700)
        monkeypatch.setattr(
            "moderation.embedded.postgres.programs", lambda: tmp_path / "venv" / wheel.name / "pginstall"
        )
        with Postgres(tmp_path / "postgres") as server:
            assert server.identity.capability is not None
            assert scalar(server, "postgres", "SELECT 1") == 1

    def test_the_servers_user_is_not_root(self, postgres):
        assert postgres.data.stat().st_uid != 0
        status = Path(f"/proc/{postgres.process.pid}/status").read_text().splitlines()
        assert (
            next(line for line in status if line.startswith("Uid:")).split()[1:]
            == [str(postgres.identity.uid)] * 4
        )
        kept = 0 if postgres.identity.capability is None else 1 << postgres.identity.capability
        for kind in ("CapEff:", "CapPrm:", "CapAmb:"):
            assert int(next(line for line in status if line.startswith(kind)).split()[1], 16) == kept


def python(code, tmp_path, name="child"):
    return lambda: spawn(
        [sys.executable, "-I", "-S", "-u", "-c", code],
        death_signal=signal.SIGKILL,
        output=tmp_path / f"{name}.log",
    )


SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def supervise():
    """A supervisor whose children end with the test, even with one that fails."""
    supervisors = []

    def made(*arguments):
        supervisors.append(Supervisor(*arguments))
        return supervisors[-1]

    yield made
    for supervisor in supervisors:
        supervisor.stop(lambda: True)


class TestSupervisor:
    def test_a_dead_child_is_started_again_ever_more_slowly(self, tmp_path, supervise):
        said = []
        child = Child("worker", python("raise SystemExit(3)", tmp_path))
        supervisor = supervise([[child]], [], said.append)
        assert wait_until(lambda: supervisor.start() or len(said) >= 3, PATIENCE)
        assert said == [
            "worker ended with status 3; it is started again now",
            "worker ended with status 3; it is started again in 0.5 s",
            "worker ended with status 3; it is started again in 1 s",
        ]

    def test_groups_end_in_order(self, tmp_path, supervise):
        code = (
            "import signal, sys, time\n"
            "def end(*_): time.sleep(0.3); open(sys.argv[1], 'a').write(sys.argv[2]); sys.exit()\n"
            "signal.signal(signal.SIGTERM, end); print('up'); time.sleep(600)"
        )
        order = tmp_path / "order"
        programs = {name: f"import sys; sys.argv += [{str(order)!r}, {name!r}]\n{code}" for name in "abc"}
        children = [
            Child(name, python(program, tmp_path, name), stop_seconds=PATIENCE)
            for name, program in programs.items()
        ]
        supervisor = supervise([[children[0]], children[1:]], [], print)
        supervisor.start()
        assert wait_until(lambda: all((tmp_path / f"{n}.log").read_text() for n in "abc"), PATIENCE)
        supervisor.stop(lambda: False)
        assert order.read_text()[0] == "a"
        assert sorted(order.read_text()) == ["a", "b", "c"]

    @pytest.mark.parametrize("hurried", [False, True])
    def test_who_does_not_listen_is_killed_with_all_it_started(self, tmp_path, supervise, hurried):
        code = (
            "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
            # One write each: print() makes two, and those of two processes mix.
            "os.write(1, b'%d\\n' % os.fork()); time.sleep(600)"
        )
        child = Child("deaf", python(code, tmp_path), stop_seconds=600 if hurried else 0.5)
        supervisor = supervise([[child]], [], print)
        supervisor.start()
        assert wait_until(lambda: len((tmp_path / "child.log").read_text().split()) == 2, PATIENCE)
        pids = [child.process.pid, *map(int, (tmp_path / "child.log").read_text().split())]
        hurry = threading.Event()
        if hurried:
            hurry.set()
        stopping = threading.Thread(target=supervisor.stop, args=(hurry.is_set,))
        stopping.start()
        try:
            assert wait_until(lambda: all(gone(pid) for pid in pids if pid), PATIENCE)
        finally:
            hurry.set()
            stopping.join()

    def test_children_of_a_dead_child_are_swept(self, tmp_path, supervise):
        child = Child("worker", python(f"import os\nif not os.fork(): {SLEEP}\nprint(os.getpid())", tmp_path))
        buried = []
        supervisor = supervise([[child]], [], print, buried.append)
        assert wait_until(lambda: supervisor.start() or buried, PATIENCE)
        supervisor.stop(lambda: True)

        def members():
            found = []
            for path in Path("/proc").glob("[0-9]*/stat"):
                with suppress(OSError):  # it may end while it is looked at
                    fields = path.read_text().rsplit(")", 1)[1].split()
                    found += [fields] if fields[2] == str(buried[0]) and fields[0] != "Z" else []
            return found

        assert wait_until(lambda: not members(), PATIENCE)

    def test_watched_servers_are_started_again_and_not_stopped(self, tmp_path):
        said = []
        with Broker(tmp_path / "broker") as broker:
            supervisor = Supervisor(
                [], [Child(broker.title, broker.begin, process=broker.process)], said.append
            )
            broker.kill()
            supervisor.start()
            assert wait_until(broker.ready, PATIENCE)
            supervisor.stop(lambda: True)
            assert broker.ready()
        assert said == ["Valkey was ended by SIGKILL; it is started again now"]

    def test_a_child_that_can_not_be_started_is_tried_again(self, tmp_path):
        def fail():
            raise EmbeddedError("no room")

        said = []
        supervisor = Supervisor([[Child("api", fail)]], [], said.append)
        supervisor.start()
        assert said == ["api can't be started: no room; next try now"]

    def test_second_signal_hurries_but_an_echo_does_not(self, monkeypatch):
        now = 100.0
        monkeypatch.setattr("moderation.embedded.supervisor.time.monotonic", lambda: now)
        interrupts = Interrupts()
        interrupts.starting = False
        interrupts._note(signal.SIGINT, None)
        interrupts._note(signal.SIGINT, None)
        assert (interrupts.stopping, interrupts.hurried) == (True, False)
        now += 1
        interrupts._note(signal.SIGINT, None)
        assert interrupts.hurried


class TestInstance:
    def test_a_second_owner_is_refused_by_pid(self, tmp_path):
        refusal = rf"already runs on .*var \(pid {os.getpid()}\)"
        with instance.hold(tmp_path / "var"), pytest.raises(EmbeddedError, match=refusal):
            instance.hold(tmp_path / "var").__enter__()
        with instance.hold(tmp_path / "var"):
            pass

    def test_secrets_are_private(self, tmp_path):
        before = os.umask(0)
        try:
            with instance.hold(tmp_path / "var") as held:
                instance.ensure_kek(held)
                instance.write_first_run(held, "http://127.0.0.1:8000", {"api_key": "k"})
                instance.write_environment(held, {"MODERATION_A": "it's $HOME", "HOME": "/"})
                private = (held.kek, held.first_run, held.environment, held.directory / "lock")
                assert {mode(path) for path in private} == {0o600}
                assert {mode(path.parent) for path in (held.kek, held.environment)} == {0o700}
                assert mode(held.directory) in (0o700, 0o711)
        finally:
            os.umask(before)

    def test_the_key_is_made_once_and_missed_when_gone(self, tmp_path):
        with instance.hold(tmp_path) as held:
            instance.ensure_kek(held)
            first = held.kek.read_text()
            instance.ensure_kek(held)
            assert held.kek.read_text() == first
            (held.postgres / "data").mkdir(parents=True)
            held.kek.unlink()
            with pytest.raises(EmbeddedError, match="kek is missing"):
                instance.ensure_kek(held)

    def test_environment_comes_back_and_holds_no_secret(self, tmp_path):
        with instance.hold(tmp_path) as held:
            instance.ensure_kek(held)
            base = {
                "HOME": "/h",
                "PGHOST": "elsewhere",
                "MODERATION_KEK": "old",
                "MODERATION_BATCH_ITEMS": "16",
            }
            urls = {"DATABASE_URL": "postgresql:///m?host=%2Fit's", "KEYSTORE_URL": "k", "REDIS_URL": "r"}
            environment = instance.child_environment(held, base, urls=urls, workers=2, insecure=False)
            instance.write_environment(held, environment)
            read = instance.read_environment(tmp_path)
            assert read["MODERATION_DATABASE_URL"] == urls["DATABASE_URL"]
            assert read["MODERATION_BATCH_ITEMS"] == "16"
            assert "PGHOST" not in environment
            assert "MODERATION_KEK" not in environment
            assert held.kek.read_text().strip() not in held.environment.read_text()

    def test_first_run_file_keeps_its_keys_and_a_true_address(self, tmp_path):
        with instance.hold(tmp_path) as held:
            instance.write_first_run(held, "http://127.0.0.1:1", None)
            assert instance.read_first_run(tmp_path) is None
            instance.write_first_run(held, "http://127.0.0.1:1", {"api_key": "k", "admin": {}})
            instance.write_first_run(held, "http://127.0.0.1:2", None)
            assert json.loads(held.first_run.read_text()) == {
                "url": "http://127.0.0.1:2",
                "api_key": "k",
                "admin": {},
            }

    def test_logs_stay_small_under_a_writer(self, tmp_path):
        log = tmp_path / "api.log"
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, b"x" * 100)
        instance.cap_log(log, limit=200)
        assert log.stat().st_size == 100
        instance.cap_log(log, limit=99)
        os.write(descriptor, b"y")
        os.close(descriptor)
        assert log.read_bytes() == b"y"
        assert (tmp_path / "api.log.1").stat().st_size == 100


def test_a_taken_port_is_refused_with_a_sentence():
    def claimed_twice():
        port = up.claim_port("127.0.0.1", 0)
        with suppress(EmbeddedError):
            return up.claim_port("127.0.0.1", port) == port

    # Somebody else may take a free port meanwhile, though not every time.
    assert any(claimed_twice() for _ in range(5))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmbeddedError, match=rf"Port {port} on 127.0.0.1 can't be used .*--port N"):
            up.claim_port("127.0.0.1", port)
    with pytest.raises(EmbeddedError, match="can't be used"):
        up.claim_port("192.0.2.1", 8000)


def test_it_goes_on_when_nobody_reads(tmp_path):
    """`moderation up | head`: a lost terminal is no reason to stop, least of all in the middle of stopping."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as broken:
        screen = Screen(tmp_path, Console(file=broken))
        screen.event("worker-1 ended with status 1")
        screen.stopping()
        with suppress(BrokenPipeError):
            broken.close()


def test_secrets_are_shown_in_one_piece(tmp_path):
    """However narrow the terminal is: they are shown once, to be copied."""
    console = Console(file=io.StringIO(), width=20, soft_wrap=True, highlight=False)
    key = "mk_" + "[a]" * 40
    admin = {"email": "admin@localhost", "password": "p" * 50, "totp_secret": "T" * 64}
    Screen(tmp_path, console).first_run(
        tmp_path / "first-run.json", "http://h:1", {"api_key": key, "admin": admin}
    )
    shown = console.file.getvalue()
    assert all(f"   {secret}\n" in shown for secret in (key, *admin.values(), "http://h:1"))
