"""The Merkle tree of RFC 9162: hashes, roots, and proofs that a leaf is in it or that it only grew.

A tree is known here by its nodes: `node(level, index)` is the root of the complete subtree over the leaves from
`index * 2**level` on. Whoever stores them decides where from; nothing here holds more than a path.

Source: RFC 9162, section 2.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

HASH_BYTES = 32
EMPTY = hashlib.sha256().digest()
Node = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two neighbours."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over the hashes of leaves."""
    grown = CompactRange()
    for leaf in leaves:
        grown.append(leaf)
    return grown.root()


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2**n neighbouring nodes of one level."""
    row = list(hashes)
    if not row or len(row) & (len(row) - 1):
        raise ValueError(f"{len(row)} nodes are not a complete subtree.")
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@dataclass(slots=True)
class CompactRange:
    """A tree to append to, of which only the complete subtrees are kept: one hash per bit of its size."""

    size: int = 0
    nodes: list[bytes] = field(default_factory=list)  # the largest subtree first

    def append(self, leaf: bytes) -> list[bytes]:
        """Append a leaf's hash; returns it and the roots of the subtrees it completes, by level."""
        completed = [leaf]
        rest = self.size
        while rest & 1:
            leaf = node_hash(self.nodes.pop(), leaf)
            completed.append(leaf)
            rest >>= 1
        self.nodes.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """The root of the tree as it is now."""
        if not self.nodes:
            return EMPTY
        found = self.nodes[-1]
        for left in reversed(self.nodes[:-1]):
            found = node_hash(left, found)
        return found


def root_of(size: int, node: Node) -> bytes:
    """The root of the first `size` leaves of a stored tree."""
    return _subtree(0, size, node) if size else EMPTY


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """The proof that the leaf `index` is in the tree of `size` leaves.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"A tree of {size} leaves has no leaf {index}.")
    begin, end = 0, size
    path: list[bytes] = []
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(begin, middle, node))
            begin = middle
    return path[::-1]


def consistency(old: int, new: int, node: Node) -> list[bytes]:
    """The proof that the tree of `new` leaves begins with the tree of `old` leaves.

    Raises:
        ValueError: the older tree is the larger one.
    """
    if not 0 <= old <= new:
        raise ValueError(f"A tree of {new} leaves can't contain one of {old}.")
    if old in (0, new):
        return []
    begin, end = 0, new
    path: list[bytes] = []
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_subtree(middle, end, node))
            end = middle
        else:
            path.append(_subtree(begin, middle, node))
            begin = middle
    if begin:
        path.append(_subtree(begin, end, node))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the leaf with hash `leaf` stands at `index` in the tree with `root`."""
    if not 0 <= index < size or not _hashes(leaf, root, *proof):
        return False
    climbed = _climb(index, size - 1, leaf, leaf, proof)
    return climbed is not None and climbed[1] == root


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Whether `proof` shows that the tree with `new_root` begins with the tree with `old_root`."""
    if not 0 <= old <= new or not _hashes(old_root, new_root, *proof):
        return False
    if old in (0, new):
        return not proof and old_root == (new_root if old == new else EMPTY)
    path = [old_root, *proof] if old & (old - 1) == 0 else proof
    if not path:
        return False
    # The largest complete subtree at the end of the older tree is where both begin to climb.
    complete = (old & -old).bit_length() - 1
    climbed = _climb((old - 1) >> complete, (new - 1) >> complete, path[0], path[0], path[1:])
    return climbed == (old_root, new_root)


def _climb(
    at: int, last: int, before: bytes, after: bytes, path: Sequence[bytes]
) -> tuple[bytes, bytes] | None:
    """Up from node `at` of a row that ends at `last`: the roots of the older and of the newer tree.

    The older tree ends with the node: it takes what lies to the left only. None for a path of another length.
    """
    for sibling in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        at, last = at >> 1, last >> 1
    return (before, after) if last == 0 else None


def _hashes(*values: bytes) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _subtree(begin: int, end: int, node: Node) -> bytes:
    """The hash over the leaves from `begin` to before `end`; `begin` is where such a subtree begins."""
    count = end - begin
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return node(level, begin >> level)
    middle = begin + _split(count)
    return node_hash(_subtree(begin, middle, node), _subtree(middle, end, node))
