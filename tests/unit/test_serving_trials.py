"""What is tried beside a champion: loaded with it, exchanged without it, refused alone, and a fair share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from uuid import UUID

import pytest

from models.registry import load
from models.serving import CANARY, SHADOW, Change, Served, Serving, Wanted, in_share
from moderation.storage.ids import new_id
from tests import artifacts
from tests.conftest import NOW

NAME = "text-minilm"


def wanted(folder: Path) -> Wanted:
    manifest = load(folder)
    return Wanted(manifest.name, manifest.version, manifest.kind, folder, manifest.sha256)


def versions(served: Served) -> list[str]:
    return [f"{one.name} {one.version}" for one in served.manifests]


def told(changes: Iterable[Change]) -> list[tuple[str, str, bool]]:
    return [(one.alias, one.wanted.version, bool(one.refused)) for one in changes]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Wanted]:
    root = tmp_path_factory.mktemp("models")
    return {version: wanted(artifacts.another(root, version)) for version in ("7", "8")}


def test_a_canary_is_loaded_once_and_serves_when_it_is_promoted(folders: dict[str, Wanted]) -> None:
    old, new, serving = folders["7"], folders["8"], Serving()
    serving.follow([old])
    changes = serving.follow([old], [new], [new], {NAME: 0.1})
    assert told(changes) == [(SHADOW, "8", False), (CANARY, "8", False)]
    trials = serving.line().trials
    assert trials.shadow.text[0] is trials.canary.text[0], "one version takes the memory of one"
    assert trials.shares == {NAME: 0.1}
    assert versions(serving.current()) == [f"{NAME} 7"]
    tried = trials.canary.text[0]
    assert serving.follow([old], [], [new], {NAME: 0.5}) == [], "another share loads nothing"
    assert (serving.line().trials.shares, versions(serving.line().trials.shadow)) == ({NAME: 0.5}, [])
    serving.follow([new])
    assert serving.current().text[0] is tried
    assert versions(serving.line().trials.canary) == []


def test_what_is_tried_and_does_not_load_is_refused_alone(folders: dict[str, Wanted]) -> None:
    old, new, serving = folders["7"], folders["8"], Serving()
    broken = Wanted(new.name, new.version, new.kind, new.folder, "0" * 64)
    assert told(serving.follow([old], [broken], [], {})) == [("champion", "7", False), (SHADOW, "8", True)]
    line = serving.line()
    assert (versions(line.champions), versions(line.trials.shadow)) == ([f"{NAME} 7"], [])
    assert serving.follow([old], [broken]) == [], "it is not tried again and again"
    assert told(serving.follow([old], [new])) == [(SHADOW, "8", False)]
    assert told(serving.follow([old], [broken])) == [(SHADOW, "8", True)]
    assert versions(serving.line().trials.shadow) == [], "what is not wanted any more is not tried on"


def test_a_name_without_a_champion_is_tried_as_well(folders: dict[str, Wanted], tmp_path: Path) -> None:
    head = wanted(artifacts.text_head(tmp_path, "head-forum", "1", base=folders["7"].folder))
    serving = Serving()
    serving.follow([folders["7"]], [head])
    assert versions(serving.line().trials.shadow) == ["head-forum 1"]


def test_a_head_is_tried_beside_its_base_alone(folders: dict[str, Wanted], tmp_path: Path) -> None:
    old, new, serving = folders["7"], folders["8"], Serving()
    head = wanted(artifacts.text_head(tmp_path, "head-forum", "1", base=new.folder))
    (_, refused) = serving.follow([old], [head])
    assert "belongs to text-minilm/8, which does not serve here" in refused.refused
    assert told(serving.follow([old], [head, new])) == [(SHADOW, "8", False), (SHADOW, "1", False)]
    # Its base is a shadow: it decides nothing, and no canary may stand on it.
    assert told(serving.follow([old], [new], [head], {"head-forum": 0.5})) == [(CANARY, "1", True)]
    assert told(serving.follow([new], [], [head], {"head-forum": 0.5}))[-1] == (CANARY, "1", False)
    serving.follow([old], [], [head], {"head-forum": 0.5})
    assert versions(serving.line().trials.canary) == [], "its base has gone"


def test_a_share_is_of_the_ids_the_same_for_ever_and_grows() -> None:
    ids = [new_id(NOW) for _ in range(4000)]
    tenth = {item for item in ids if in_share(item, 0.1)}
    assert 300 < len(tenth) < 500
    assert tenth < {item for item in ids if in_share(item, 0.3)}
    assert not any(in_share(item, 0.0) for item in ids)
    assert all(in_share(item, 1.0) for item in ids)
    # By hand: the first eight bytes of SHA-256 of sixteen zero bytes are 374708fff7719dd5.
    assert in_share(UUID(int=0), 0.2160) is True
    assert in_share(UUID(int=0), 0.2159) is False
