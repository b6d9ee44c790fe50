"""`moderation banks` as it is typed: lists with their faults, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moderation import cli
from moderation.commands import banks as commands
from moderation.settings import Settings
from tests import hostile

Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run one command; its status and what it wrote."""
    monkeypatch.setattr(cli, "_settings", lambda _: settings)

    def run(*words: object) -> tuple[int, str]:
        status = cli.main(["banks", *map(str, words)])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_a_list_from_a_dry_run_to_its_end(say: Say, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.txt"
    hosts.write_text("# of May\nprizes.com\n\nhttps://PRIZES.com/\nco.uk\n+49 30 901820\n")
    made = ("create", "swindles", "--kind", "link", "--category", "fraud", "--action", "remove")
    assert say(*made) == (0, "Bank swindles is made and empty.\n")
    status, said = say("import", "swindles", "--file", hosts, "--dry-run")
    assert (status, said.splitlines()[0][:7]) == (0, "line 5:")
    assert "2 would be added, 0 known already, 1 twice in the list, 1 bad." in said
    assert (
        "2 added, 0 known already, 1 twice in the list, 1 bad."
        in say("import", "swindles", "--file", hosts)[1]
    )
    assert "0 added, 2 known already" in say("import", "swindles", "--file", hosts, "--verified")[1]
    assert "swindles" in say("list")[1]
    assert say("off", "swindles") == (0, "Bank swindles is off.\n")
    assert "off" in say("list")[1]
    assert say("remove", "swindles") == (
        0,
        "Bank swindles is gone, with 2 entries; what it decided stays decided.\n",
    )
    assert say("remove", "swindles")[0] == cli.REFUSED


def test_files_are_one_entry_each(say: Say, tmp_path: Path) -> None:
    picture, text = tmp_path / "a.png", tmp_path / "a.txt"
    picture.write_bytes(hostile.saved(hostile.gradient(), "PNG"))
    text.write_text("A known text\nof two lines.")
    for kind, file in (("image", picture), ("text", text)):
        say("create", kind, "--kind", kind, "--category", "spam", "--action", "review")
        assert say("add", kind, file, file)[1].startswith("1 added, 1 known already")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "words", "nowhere.txt"], "can't be read"),
        (["import", "words", "--file", "nowhere.txt"], "can't be read"),
        (["import", "words", "--file", "tests", "--form", "pdq"], "A folder holds pictures"),
        (["export", "words"], "no bank named"),
        (["export", "words", "--file", "pyproject.toml"], "no bank named"),
        (["tune", "words"], "Say what to change"),
        (
            ["create", "c", "--kind", "claim", "--category", "spam", "--action", "remove"],
            "A person has to read",
        ),
    ],
)
def test_refusals_say_what_to_do(say: Say, words: list[str], said: str) -> None:
    status, written = say(*words)
    assert status == cli.REFUSED
    assert said in written


def test_kinds_are_those_there_are() -> None:
    from moderation.governance import banks

    assert set(commands.KINDS) == set(banks.KINDS)
