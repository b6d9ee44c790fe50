"""The tree over the audit log: the reference tree's published numbers, and the naive definition."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation.domain import merkle

# The reference tree of Certificate Transparency (RFC 6962): eight leaves, and what is published of them.
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION = [
    (0, 1, []),
    (0, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (5, 8, [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (1, 5, [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
]  # fmt: skip
CONSISTENCY = [
    (1, 1, []),
    (1, 8, [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]),
    (6, 8, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
    (2, 5, [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ]),
    (6, 7, [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]),
]  # fmt: skip
SOME = hashlib.sha256(b"something else").digest()


def naive_root(leaves):
    """RFC 9162, section 2.1.1, word by word; over the leaves themselves."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = largest_below(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_path(m, leaves):
    """RFC 9162, section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = largest_below(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m, leaves, whole):
    """RFC 9162, section 2.1.4.1."""
    if m == len(leaves):
        return [] if whole else [naive_root(leaves)]
    k = largest_below(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], whole), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], whole=False), naive_root(leaves[:k])]


def largest_below(count):
    k = 1
    while k * 2 < count:
        k *= 2
    return k


def stored(leaves):
    """A tree that knows all its complete subtrees, as a function of level and index."""
    hashes = [merkle.leaf_hash(leaf) for leaf in leaves]

    def node(level, index):
        begin, count = index << level, 1 << level
        assert begin + count <= len(hashes), "asked for a subtree that is not complete"
        return merkle.perfect_root(hashes[begin : begin + count])

    return node


def words(count):
    return [b"leaf %d" % number for number in range(count)]


def test_the_published_roots():
    assert merkle.EMPTY.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    for size, expected in enumerate(ROOTS, 1):
        assert merkle.root(hashes[:size]).hex() == expected
        assert merkle.root_of(size, stored(LEAVES)).hex() == expected


@pytest.mark.parametrize(("index", "size", "expected"), INCLUSION)
def test_the_published_inclusion_proofs(index, size, expected):
    proof = merkle.inclusion(index, size, stored(LEAVES))
    assert [value.hex() for value in proof] == expected
    root = bytes.fromhex(ROOTS[size - 1])
    assert merkle.verify_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, proof, root)
    assert not any(refused_inclusion(merkle.leaf_hash(LEAVES[index]), index, size, proof, root))


@pytest.mark.parametrize(("old", "new", "expected"), CONSISTENCY)
def test_the_published_consistency_proofs(old, new, expected):
    proof = merkle.consistency(old, new, stored(LEAVES))
    assert [value.hex() for value in proof] == expected
    before, after = bytes.fromhex(ROOTS[old - 1]), bytes.fromhex(ROOTS[new - 1])
    assert merkle.verify_consistency(old, new, proof, before, after)
    if proof:
        assert not any(refused_consistency(old, new, proof, before, after))


def refused_inclusion(leaf, index, size, proof, root):
    """What a verifier says to every way to alter a proof: all of it must be False."""
    say = merkle.verify_inclusion
    for wrong_index in {index - 1, index + 1, index ^ 2} - {index}:
        yield say(leaf, wrong_index, size, proof, root)
    for wrong_size in (size * 2, size // 2):
        yield say(leaf, index, wrong_size, proof, root)
    for wrong in (b"", b"short", SOME, merkle.EMPTY):
        yield say(wrong, index, size, proof, root)
        yield say(leaf, index, size, proof, wrong)
        yield say(leaf, index, size, [*proof, wrong], root)
        yield say(leaf, index, size, [wrong, *proof], root)
    yield say(leaf, index, size, [*proof, root], root)
    yield say(leaf, index, size, [root, *proof], root)
    yield from (say(leaf, index, size, other, root) for other in damaged(proof))


def refused_consistency(old, new, proof, before, after):
    say = merkle.verify_consistency
    for wrong_old in {old - 1, old + 1, old ^ 2} - {old, new}:
        yield say(wrong_old, new, proof, before, after)
    for wrong_new in (new * 2, new // 2):
        yield say(old, wrong_new, proof, before, after)
    yield say(old, new, proof, after, before)
    yield say(old, new, [], before, after)
    for wrong in (b"", b"WrongRoot", SOME):
        yield say(old, new, proof, wrong, after)
        yield say(old, new, proof, before, wrong)
    for more in (b"", before, after, proof[0], SOME):
        yield say(old, new, [*proof, more], before, after)
        yield say(old, new, [more, *proof], before, after)
    yield from (say(old, new, other, before, after) for other in damaged(proof))


def damaged(proof):
    for at, value in enumerate(proof):
        for bit in (0, 3, 4, 7):
            yield [*proof[:at], bytes([value[0] ^ 1 << bit]) + value[1:], *proof[at + 1 :]]
        yield [*proof[:at], *proof[at + 1 :]]
        yield [*proof[:at], SOME, *proof[at:]]
    if len(proof) > 1:
        yield proof[::-1]


@given(st.integers(0, 600))
def test_roots_are_those_of_the_definition(size):
    leaves = words(size)
    grown = merkle.CompactRange()
    for leaf in leaves:
        grown.append(merkle.leaf_hash(leaf))
    assert grown.size == size
    assert grown.root() == naive_root(leaves) == merkle.root_of(size, stored(leaves))


def test_appending_tells_every_subtree_it_completes():
    leaves, grown = words(64), merkle.CompactRange()
    node = stored(leaves)
    for index, leaf in enumerate(leaves):
        completed = grown.append(merkle.leaf_hash(leaf))
        assert completed == [node(level, index >> level) for level in range(len(completed))]
        assert (index + 1) % (1 << len(completed)) != 0


@given(st.data())
def test_inclusion_proofs_are_those_of_the_definition_and_no_other_passes(data):
    size = data.draw(st.integers(1, 300), "size")
    index = data.draw(st.integers(0, size - 1), "index")
    leaves = words(size)
    proof, root = merkle.inclusion(index, size, stored(leaves)), naive_root(leaves)
    assert proof == naive_path(index, leaves)
    leaf = merkle.leaf_hash(leaves[index])
    assert merkle.verify_inclusion(leaf, index, size, proof, root)
    assert not any(refused_inclusion(leaf, index, size, proof, root))
    others = (other for other in range(-2, size + 2) if other != index)
    assert not any(merkle.verify_inclusion(leaf, other, size, proof, root) for other in others)


@given(st.data())
def test_consistency_proofs_are_those_of_the_definition_and_no_other_passes(data):
    new = data.draw(st.integers(1, 300), "new")
    old = data.draw(st.integers(1, new), "old")
    leaves = words(new)
    proof = merkle.consistency(old, new, stored(leaves))
    before, after = naive_root(leaves[:old]), naive_root(leaves)
    assert proof == naive_subproof(old, leaves, whole=True)
    assert merkle.verify_consistency(old, new, proof, before, after)
    if old < new:
        assert not any(refused_consistency(old, new, proof, before, after))
        altered = [*leaves[: old - 1], b"another", *leaves[old:]]
        assert not merkle.verify_consistency(old, new, proof, naive_root(altered[:old]), after)
        assert not merkle.verify_consistency(old, new, proof, before, naive_root(altered))


def test_an_empty_tree_is_the_beginning_of_every_tree():
    after = naive_root(words(3))
    assert merkle.consistency(0, 3, stored(words(3))) == []
    assert merkle.verify_consistency(0, 3, [], merkle.EMPTY, after)
    assert merkle.verify_consistency(0, 0, [], merkle.EMPTY, merkle.EMPTY)
    assert not merkle.verify_consistency(0, 3, [], SOME, after)
    assert not merkle.verify_consistency(0, 3, [SOME], merkle.EMPTY, after)
    assert not merkle.verify_consistency(0, 0, [], merkle.EMPTY, SOME)


def test_what_no_tree_has_is_refused():
    node = stored(words(4))
    for index, size in ((0, 0), (4, 4), (-1, 4)):
        with pytest.raises(ValueError, match="has no leaf"):
            merkle.inclusion(index, size, node)
    for old, new in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="can't contain"):
            merkle.consistency(old, new, node)
    for count in (0, 3):
        with pytest.raises(ValueError, match="complete subtree"):
            merkle.perfect_root([SOME] * count)
