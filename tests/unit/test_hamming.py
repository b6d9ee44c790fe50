"""The index of picture hashes answers as brute force does, whatever way it takes, and its files are whole."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation.features import multi_index
from moderation.features.hamming import Found, Index, Segment, SegmentError, build, search64
from moderation.features.multi_index import Cut

RADII = (0, 31, 48, 256)


def brute(hashes, owners, queries, radius):
    found = []
    for number, query in enumerate(queries):
        distances = np.unpackbits(hashes ^ query, axis=1).sum(axis=1)
        least = {}
        for owner, distance in zip(owners, distances.tolist(), strict=True):
            if distance <= radius:
                least[owner.tobytes()] = min(distance, least.get(owner.tobytes(), 256))
        found += [
            Found(number, owner, distance)
            for distance, owner in sorted((distance, owner) for owner, distance in least.items())
        ]
    return found


def some(chance, count, crowds=0):
    """Random hashes; with crowds, each is at a distance of 0 to 60 from one of so many centres."""
    hashes = chance.integers(0, 256, (count, 32), np.uint8)
    if crowds:
        hashes = turned(chance, hashes[chance.integers(0, crowds, count) % max(count, 1)], 60)
    return hashes


def turned(chance, hashes, most):
    """Hashes with 0 to `most` bits turned, all numbers of them equally often."""
    ranks = chance.random((len(hashes), 256)).argsort(axis=1)
    return hashes ^ np.packbits(ranks < chance.integers(0, most + 1, (len(hashes), 1)), axis=1)


def owned(chance, count, each):
    """Owners of `each` hashes on the average, some of which end in zeros."""
    all_of_them = chance.integers(0, 256, (max(count // each, 1), 16), np.uint8)
    all_of_them[::3, 8:] = 0
    return all_of_them[chance.integers(0, len(all_of_them), count)]


def cheap(monkeypatch, *, comparing):
    """Look-ups for nothing, so that small indexes take the way of large ones; None: a scan always."""
    monkeypatch.setattr(multi_index, "_CALLS", 0.0)
    monkeypatch.setattr(multi_index, "_LOOK", 1e-9)
    monkeypatch.setattr(multi_index, "_COMPARE", comparing)
    multi_index._plan.cache_clear()
    multi_index._wide_plan.cache_clear()


@pytest.fixture(params=["scan", "look up", "look up what is crowded"])
def way(request, monkeypatch):
    """Each of the ways to search: their choice is by cost, and what they answer is the same."""
    cheap(
        monkeypatch, comparing={"scan": 1e9, "look up": 1e-9, "look up what is crowded": 1.0}[request.param]
    )
    yield request.param
    multi_index._plan.cache_clear()
    multi_index._wide_plan.cache_clear()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 300),
    added=st.integers(0, 40),
    crowds=st.integers(0, 4),
    radius=st.sampled_from(RADII) | st.integers(0, 256),
    most=st.none() | st.integers(1, 5),
)
def test_equals_brute_force(tmp_path_factory, seed, count, added, crowds, radius, most):
    chance = np.random.default_rng(seed)
    hashes, owners = some(chance, count, crowds), owned(chance, count, 2)
    path = tmp_path_factory.mktemp("segment") / "hashes"
    build(path, hashes, owners)
    more, theirs = some(chance, added, crowds), owned(chance, added, 2)
    removed = {owner.tobytes() for owner in np.concatenate([owners, theirs])[:: chance.integers(3, 9)]}
    late = chance.integers(0, 256, (1, 32), np.uint8)
    again = np.frombuffer(next(iter(removed), b"0123456789abcdef"), np.uint8)[None]
    index = (
        Index(Segment.open(path))
        .with_changes(more, theirs)
        .with_changes(late[:0], theirs[:0], removed)
        .with_changes(late, again)
    )
    everything, everyone = np.concatenate([hashes, more]), np.concatenate([owners, theirs])
    kept = np.array([owner.tobytes() not in removed for owner in everyone], bool)
    everything, everyone = np.concatenate([everything[kept], late]), np.concatenate([everyone[kept], again])
    queries = np.concatenate([everything[-2:], turned(chance, everything[:2], 50), some(chance, 2)])
    expected = brute(everything, everyone, queries, radius)
    found = index.search(queries, radius, most)
    if most is None:
        assert found == expected
    else:
        assert found == [
            one for number in range(len(queries)) for one in [f for f in expected if f.query == number][:most]
        ]
    live, whose = index.live()
    assert sorted(h.tobytes() + o.tobytes() for h, o in zip(live, whose, strict=True)) == sorted(
        h.tobytes() + o.tobytes() for h, o in zip(everything, everyone, strict=True)
    )


@pytest.mark.parametrize("crowds", [0, 12])
def test_all_ways_equal_brute_force_among_many(tmp_path, way, crowds):
    chance = np.random.default_rng(4)
    hashes, owners = some(chance, 30_000, crowds), owned(chance, 30_000, 3)
    build(tmp_path / "hashes", hashes, owners)
    index = Index(Segment.open(tmp_path / "hashes"))
    queries = np.concatenate([turned(chance, hashes[:6], 48), some(chance, 2)])
    for radius in (0, 15, 31, 48, 80):
        assert index.search(queries, radius) == brute(hashes, owners, queries, radius)


@pytest.mark.parametrize("radius", [15, 31, 48])
@pytest.mark.parametrize("beyond", [0, 128])
def test_bits_spread_over_substrings_are_not_missed(tmp_path, way, radius, beyond):
    """The pigeonhole's hardest case: as many bits in each substring as can be, and one fewer in some.

    Or in each that is not crowded.
    """
    chance = np.random.default_rng(radius)
    query = some(chance, 1)
    crowd, near = some(chance, 10_000), np.repeat(query, 1_000, axis=0)
    crowd[:, :16] = query[:, :16]
    widths = Cut.of(11_000).widths
    starts = np.cumsum(widths) - widths
    places = [
        np.arange(start, start + width)
        for start, width in zip(starts, widths, strict=True)
        if start >= beyond
    ]
    for hashed in near:
        bits = np.unpackbits(hashed, bitorder="little")
        shares = np.full(len(places), radius // len(places))
        shares[chance.permutation(len(places))[: radius % len(places)]] += 1
        for place, share in zip(places, shares, strict=True):
            bits[chance.permutation(place)[:share]] ^= 1
        hashed[:] = np.packbits(bits, bitorder="little")
    hashes, owners = np.concatenate([crowd, near]), some(chance, 11_000)[:, :16]
    build(tmp_path / "hashes", hashes, owners)
    found = Index(Segment.open(tmp_path / "hashes")).search(query, radius)
    assert {one.owner for one in found if one.distance == radius} >= {
        owner.tobytes() for owner in owners[10_000:]
    }


def test_the_ways_are_taken(tmp_path, monkeypatch):
    """What the test above relies on, with a crowd of which nothing can be left out."""
    chance = np.random.default_rng(5)
    hashes = turned(chance, np.repeat(some(chance, 1), 20_000, axis=0), 20)
    build(tmp_path / "hashes", hashes, owned(chance, 20_000, 1))
    index, taken = Index(Segment.open(tmp_path / "hashes")), []
    for name in ("scan", "_look", "_anew"):
        real = getattr(multi_index, name)
        monkeypatch.setattr(
            multi_index, name, lambda *given, name=name, real=real: (taken.append(name), real(*given))[1]
        )
    for comparing, ways in ((1e9, {"scan"}), (1e-9, {"_look"}), (2.0, {"_look", "_anew", "scan"})):
        taken.clear()
        cheap(monkeypatch, comparing=comparing)
        index.search(hashes[:1], 31)
        assert set(taken) == ways
    multi_index._plan.cache_clear()
    multi_index._wide_plan.cache_clear()


def test_a_crowd_elsewhere_is_avoided_by_other_radii(tmp_path, monkeypatch):
    """Hashes alike in half of their bits: the query's crowd in these is not compared, and nothing is missed."""
    chance = np.random.default_rng(6)
    hashes = some(chance, 60_000)
    hashes[:50_000, :16] = hashes[0, :16]
    owners = owned(chance, 60_000, 1)
    build(tmp_path / "hashes", hashes, owners)
    index, compared = Index(Segment.open(tmp_path / "hashes")), []
    cheap(monkeypatch, comparing=1.0)
    real = multi_index._compared
    monkeypatch.setattr(
        multi_index, "_compared", lambda *given: (compared.append(len(given[3])), real(*given))[1]
    )
    query = turned(chance, hashes[:1], 15)
    assert index.search(query, 15) == brute(hashes, owners, query, 15)
    assert sum(compared) < 2_000
    multi_index._plan.cache_clear()
    multi_index._wide_plan.cache_clear()


@pytest.mark.parametrize("count", [33, 200])
def test_many_queries_at_once(tmp_path, way, count):
    chance = np.random.default_rng(8)
    hashes, owners = some(chance, 3_000), some(chance, 3_000)[:, :16]
    build(tmp_path / "hashes", hashes, owners)
    index = Index(Segment.open(tmp_path / "hashes")).with_changes(hashes[:50] ^ np.uint8(1), owners[:50])
    queries = turned(chance, hashes[:count], 40)
    everything, everyone = (
        np.concatenate([hashes, hashes[:50] ^ np.uint8(1)]),
        np.concatenate([owners, owners[:50]]),
    )
    assert index.search(queries, 31) == brute(everything, everyone, queries, 31)


def test_equal_hashes_are_kept_once_with_all_their_owners(tmp_path):
    hashes = np.full((5_000, 32), 7, np.uint8)
    owners = np.zeros((5_000, 2), ">u8")
    owners[:, 1] = np.arange(5_000)
    build(tmp_path / "hashes", hashes, owners.view(np.uint8))
    found = Index(Segment.open(tmp_path / "hashes")).search(hashes[:1], 31)
    assert [int.from_bytes(one.owner) for one in found] == list(range(5_000))
    assert (tmp_path / "hashes").stat().st_size < 5_000 * 30


def test_cuts_cover_every_bit_once():
    for count in (0, 1, 2, 100, 10_000, 10**6, 10**7, 1 << 27):
        cut = Cut.of(count)
        assert sum(cut.widths) == 256
        assert all(base % (1 << width) == 0 for base, width in zip(cut.bases, cut.widths, strict=True))
        assert cut.parts * count < 1 << 32
        single = multi_index.as_words(np.packbits(np.eye(256, dtype=np.uint8), axis=1, bitorder="little"))
        assert np.bitwise_count(multi_index.substrings(single, cut)).sum(axis=0).tolist() == cut.widths
        assert np.bitwise_count(multi_index.substrings(single, cut)).sum(axis=1).tolist() == [1] * 256


def test_radii_leave_no_gap():
    """The pigeonhole's condition, for every radius that look-ups are planned for."""
    for count in (1_000, 10**6, 10**7):
        cut = Cut.of(count)
        for radius in (0, 1, 31, 48):
            plan = multi_index._plan(cut, radius)
            far = np.full(cut.parts, -1)
            np.maximum.at(far, plan.parts, np.bitwise_count(plan.flips))
            assert (far + 1).sum() == radius + 1


def test_an_index_stays_as_it_was(tmp_path):
    chance = np.random.default_rng(1)
    first, owner = some(chance, 1), owned(chance, 1, 1)
    before = Index().with_changes(first, owner)
    after = before.with_changes(first[:0], owner[:0], [owner[0].tobytes()])
    assert [one.owner for one in before.search(first, 0)] == [owner[0].tobytes()]
    assert after.search(first, 256) == []
    assert (before.added, after.added, len(before), after.removed) == (1, 0, 1, 0)


def test_threads_search_while_the_index_changes(tmp_path):
    chance = np.random.default_rng(2)
    hashes, owners = some(chance, 5_000), some(chance, 5_000)[:, :16]
    build(tmp_path / "hashes", hashes, owners)
    held = [Index(Segment.open(tmp_path / "hashes"))]
    done, wrong = threading.Event(), []

    def ask():
        while not done.is_set():
            if [one.owner for one in held[0].search(hashes[:1], 31)] != [owners[0].tobytes()]:
                wrong.append(1)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(1, 60):
        held[0] = held[0].with_changes(some(chance, 5), some(chance, 5)[:, :16], [owners[number].tobytes()])
    build(tmp_path / "hashes", *held[0].live())
    held[0] = Index(Segment.open(tmp_path / "hashes"))
    done.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(held[0]) == 5_000 - 59 + 59 * 5


def test_a_segment_in_use_outlives_its_successor(tmp_path):
    chance = np.random.default_rng(3)
    hashes, owners = some(chance, 500), owned(chance, 500, 1)
    path = tmp_path / "hashes"
    build(path, hashes, owners)
    old = Index(Segment.open(path))
    build(path, hashes[:10], owners[:10])
    assert old.search(hashes[400:401], 0) == [Found(0, owners[400].tobytes(), 0)]
    assert len(Segment.open(path)) == 10
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["hashes"]


def test_damaged_and_foreign_files_are_refused(tmp_path):
    chance = np.random.default_rng(3)
    path = tmp_path / "hashes"
    build(path, some(chance, 200), owned(chance, 200, 1))
    whole = path.read_bytes()
    for place in (*range(60), *chance.integers(60, len(whole), 200).tolist()):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        with pytest.raises(SegmentError, match="build it anew"):
            Segment.open(path)
    for other in (b"", b"HAMMING\n", whole[:64], whole[:-1], whole + b"\0", b"PNG" * 1000):
        path.write_bytes(other)
        with pytest.raises(SegmentError, match="build it anew"):
            Segment.open(path)
    with pytest.raises(FileNotFoundError):
        Segment.open(tmp_path / "none")
    path.write_bytes(whole)
    assert len(Segment.open(path)) == 200


def test_a_failed_build_leaves_what_was_there(tmp_path, monkeypatch):
    chance = np.random.default_rng(3)
    path = tmp_path / "hashes"
    build(path, some(chance, 20), owned(chance, 20, 1))
    (tmp_path / ".hashes.new").write_bytes(b"left by one that was killed")
    build(path, some(chance, 30), owned(chance, 30, 1))
    monkeypatch.setattr("os.fsync", lambda _file: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        build(path, some(chance, 40), owned(chance, 40, 1))
    assert len(Segment.open(path)) == 30
    assert [one.name for one in tmp_path.iterdir()] == ["hashes"]


def test_what_is_no_hash_is_refused(tmp_path):
    chance = np.random.default_rng(3)
    with pytest.raises(ValueError, match="n, 32"):
        build(tmp_path / "hashes", some(chance, 3), owned(chance, 2, 1))
    with pytest.raises(ValueError, match="n, 32"):
        Index().with_changes(some(chance, 3)[:, :8], owned(chance, 3, 1))
    with pytest.raises(ValueError, match="0 to 256"):
        Index().search(some(chance, 1), 257)
    assert Index().search(some(chance, 2), 256) == []
    assert Index().search(some(chance, 0), 31) == []


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.integers(0, 2**64 - 1), max_size=50),
    queries=st.lists(st.integers(0, 2**64 - 1), max_size=3),
    radius=st.integers(0, 64),
)
def test_short_hashes_equal_brute_force(values, queries, radius):
    found = search64(np.array(values, np.uint64), np.array(queries, np.uint64), radius)
    assert found == [
        (number, row, (query ^ value).bit_count())
        for number, query in enumerate(queries)
        for row, value in enumerate(values)
        if (query ^ value).bit_count() <= radius
    ]
