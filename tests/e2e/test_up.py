"""The real `moderation up`, as a user starts it: what it writes, what it survives, what it leaves behind.

How long it takes is looked at in `benchmarks/`; the limits here are those of a machine that stalls.
"""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE = 60
START_SECONDS = 300
COMMAND = [sys.executable, "-m", "moderation"]


def command(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=300, **options
    )


def processes_of(directory):
    """Every living process that works in the directory or was started for it, and what it is."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            words = (folder / "cmdline").read_text().replace("\0", " ")
            mine = (folder / "cwd").resolve(strict=True).is_relative_to(directory) or str(directory) in words
            mine = mine or f"{directory}/".encode() in (folder / "environ").read_bytes()
        except OSError:
            continue
        if mine and state != "Z" and folder.name != str(os.getpid()):
            found[int(folder.name)] = words
    return found


def parent_of(pid):
    """Who started a process; 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def eventually(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if result := condition():
            return result
        time.sleep(0.05)
    return condition()


@dataclass
class Up:
    process: subprocess.Popen
    directory: Path
    output: Path

    @property
    def first_run(self):
        return json.loads((self.directory / "first-run.json").read_text())

    @property
    def text(self):
        return self.output.read_text()

    def status(self, path):
        try:
            with urllib.request.urlopen(self.first_run["url"] + path, timeout=30) as response:
                return response.status
        except OSError:
            return None

    def is_ready(self):
        return eventually(lambda: self.status("/readyz") == 200, 2 * PATIENCE)

    def pids(self, *words):
        """Who works under these words: not what they have forked, which bears the same ones for a moment."""
        found = [pid for pid, text in processes_of(self.directory).items() if all(w in text for w in words)]
        return [pid for pid in found if parent_of(pid) not in found]

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(2 * PATIENCE)

    def nothing_is_left(self):
        assert eventually(lambda: not processes_of(self.directory)), processes_of(self.directory)


def environment(house):
    """Ours, of a user with a home of his own, on a machine that does not look like one for tests."""
    house.mkdir(exist_ok=True)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MODERATION_", "ORT_", "XDG_", "CI"))}
    return kept | {"HOME": str(house)}


@contextmanager
def up(directory, output):
    output.write_text("")
    with output.open("w") as file:
        process = subprocess.Popen(
            [*COMMAND, "up", "--data-dir", str(directory), "--port", "0", "--workers", "1"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment(directory.parent / "house"),
        )
    try:
        eventually(lambda: "Ready at" in output.read_text() or process.poll() is not None, START_SECONDS)
        running = Up(process, directory, output)
        logs = "".join(log.read_text()[-2000:] for log in (directory / "logs").glob("*.log"))
        assert "Ready at" in running.text, running.text + logs
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def first(home):
    """The first start, held for the tests that only look or that it heals from."""
    with up(home / "var", home / "first.txt") as running:
        yield running


def test_first_run_is_written_for_scripts_and_shown_once(first):
    assert stat.S_IMODE((first.directory / "first-run.json").stat().st_mode) == 0o600
    written = first.first_run
    assert set(written) == {"url", "api_key", "admin"}
    assert set(written["admin"]) == {"email", "password", "totp_secret"}
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", written["url"])
    assert written["api_key"].startswith("mk_")
    for secret in (written["api_key"], *written["admin"].values(), written["url"]):
        assert secret in first.text
    logs = "".join(path.read_text() for path in (first.directory / "logs").iterdir())
    for secret in (written["api_key"], written["admin"]["password"], written["admin"]["totp_secret"]):
        assert secret not in logs


def test_it_is_ready_and_its_key_works(first):
    assert first.is_ready()
    request = urllib.request.Request(
        first.first_run["url"] + "/v1/items",
        headers={"Authorization": f"Bearer {first.first_run['api_key']}"},
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        assert response.status == 200


def test_no_secret_shows_in_a_process_list(first):
    kek = (first.directory / "secrets" / "kek").read_text().strip()
    looked_at = 0
    for pid in processes_of(first.directory):
        with suppress(OSError):  # it may end meanwhile
            shown = Path(f"/proc/{pid}/environ").read_bytes() + Path(f"/proc/{pid}/cmdline").read_bytes()
            assert kek.encode() not in shown
            looked_at += 1
    assert looked_at >= 7


def test_nothing_is_left_in_the_home_of_its_user(first, home):
    """A library that writes a device id there is about to report on us to somebody."""
    assert [path for path in (home / "house").rglob("*") if path.is_file()] == []


def test_second_start_on_the_same_directory_is_refused(first):
    refused = command("up", "--data-dir", first.directory, "--port", 0)
    assert refused.returncode == 2
    assert refused.stdout == ""
    expected = f"already runs on {first.directory} (pid {first.process.pid}). Stop it, or choose another"
    assert expected in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert first.is_ready()


def test_doctor_finds_everything_well(first):
    examined = command("doctor", "--data-dir", first.directory)
    assert examined.returncode == 0, examined.stdout
    assert "failed" not in examined.stdout
    assert "noeviction" in examined.stdout


def test_doctor_says_what_to_do(first):
    (first.directory / "secrets" / "kek").chmod(0o644)
    try:
        examined = command("doctor", "--data-dir", first.directory)
    finally:
        (first.directory / "secrets" / "kek").chmod(0o600)
    assert examined.returncode == 1
    assert "chmod 600" in examined.stdout


@pytest.mark.parametrize(
    "words", [("moderation", "serve"), ("moderation", "relay"), ("postgres", "-D"), ("valkey",)]
)
def test_what_dies_is_started_again(first, words):
    assert eventually(lambda: len(first.pids(*words)) == 1)
    (killed,) = first.pids(*words)
    os.kill(killed, signal.SIGKILL)
    assert eventually(lambda: killed not in processes_of(first.directory))
    assert eventually(lambda: len(first.pids(*words)) == 1)
    assert first.is_ready()
    assert "was ended by SIGKILL; it is started again now" in first.text


def test_it_stops_dies_and_comes_back(first, home):
    """SIGTERM, a second start, SIGKILL, a start after that, Ctrl-C: never a process too many."""
    before = first.first_run
    assert first.end(signal.SIGTERM) == 0
    first.nothing_is_left()

    examined = command("doctor", "--data-dir", first.directory)
    assert examined.returncode == 1
    assert f"Start it: moderation up --data-dir {first.directory}" in examined.stdout
    refused = command("webhooks", "dead", "--data-dir", first.directory)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
    assert "The database can't be reached" in refused.stderr

    with up(first.directory, home / "second.txt") as second:
        assert second.first_run | {"url": None} == before | {"url": None}
        assert before["api_key"] not in second.text
        assert len(processes_of(first.directory)) >= 7
        second.end(signal.SIGKILL)
        second.nothing_is_left()

    with up(first.directory, home / "third.txt") as third:
        assert third.is_ready()
        assert third.end(signal.SIGINT) == 0
        third.nothing_is_left()


def test_a_taken_port_is_refused(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused = command("up", "--data-dir", home / "other", "--port", port)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"Port {port} on 127.0.0.1 can't be used" in refused.stderr


@pytest.mark.parametrize("part", [["serve"], ["relay"], ["work"], ["migrate"], ["webhooks", "dead"]])
def test_parts_refuse_a_missing_setting_with_one_sentence(part):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MODERATION_")}
    refused = command(*part, env=environment)
    assert refused.returncode == 2
    assert refused.stderr.startswith("moderation: Set MODERATION_DATABASE_URL;")
    assert "Traceback" not in refused.stderr


def test_help_is_quick_and_names_every_command():
    """Quick, because nothing is loaded for it: not what only a command needs."""
    heavy = ("sqlalchemy", "numpy", "onnxruntime", "fastapi", "pydantic", "psycopg", "PIL", "cryptography")
    code = (
        "import sys; from moderation import cli; cli.parser(); "
        f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    shown = command("--help")
    for name in ("up", "serve", "relay", "work", "migrate", "doctor", "demo", "submit", "webhooks"):
        assert f"\n    {name} " in shown.stdout
