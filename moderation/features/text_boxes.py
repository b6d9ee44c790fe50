"""Where lines of text stand in a picture: from a detector's map to boxes, in the order in which one reads them.

The map is that of a differentiable binarisation network (Liao et al. 2020, arXiv:1911.08947), which draws each
line thinner than it is: a component of the map is grown again by `GROWN` times its area over its perimeter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

INSIDE = 0.3
"""From here up a pixel of the map belongs to a line."""
LINE = 0.4
"""The least mean of the map over a line."""
GROWN = 1.6
LEAST_SIDE = 3.0
MOST_LINES = 300
"""Of a picture, largest first: more than a page of small print has, and no map can ask for hours."""
UPRIGHT = 1.06
"""How much more area than the smallest an upright rectangle may have and still be taken."""

Map = NDArray[np.float32]
Points = NDArray[np.float64]

_ANGLES = np.deg2rad(np.arange(-45.0, 45.0, 1.0))
_ALONG = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])
_ACROSS = np.stack([-np.sin(_ANGLES), np.cos(_ANGLES)])
_LEVEL = 45  # where _ANGLES is 0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its middle, its sides and its turn in radians within 45 degrees, in pixels of the map."""

    x: float
    y: float
    width: float
    height: float
    turn: float

    def corners(self) -> Points:
        """(4, 2): top left, top right, bottom right, bottom left, as (x, y)."""
        along = np.array([np.cos(self.turn), np.sin(self.turn)]) * self.width / 2
        across = np.array([-np.sin(self.turn), np.cos(self.turn)]) * self.height / 2
        middle = np.array([self.x, self.y])
        return np.stack([middle - along - across, middle + along - across,
                         middle + along + across, middle - along + across])  # fmt: skip


def find(map_: Map) -> list[Box]:
    """The lines that a map of shape (height, width) shows, largest first, `MOST_LINES` at most."""
    inside = map_ > INSIDE
    # As the network's authors do: neighbours that only just do not touch are one line.
    inside[1:] |= inside[:-1].copy()
    inside[:, 1:] |= inside[:, :-1].copy()
    labels, count = ndimage.label(inside, structure=np.ones((3, 3)))
    if not count:
        return []
    sizes = np.bincount(labels.ravel())[1:]
    places = ndimage.find_objects(labels)
    boxes = []
    for index in np.argsort(-sizes, kind="stable")[:MOST_LINES]:
        rows, columns = places[index]
        mine = labels[rows, columns] == index + 1
        box = _around(mine)
        if min(box.width, box.height) < LEAST_SIDE:
            continue
        mean = float(map_[rows, columns][mine].sum()) / ((box.width + 1) * (box.height + 1))
        if mean < LINE:
            continue
        by = GROWN * box.width * box.height / (2 * (box.width + box.height))
        boxes.append(
            Box(box.x + columns.start, box.y + rows.start, box.width + 2 * by, box.height + 2 * by, box.turn)
        )
    return boxes


def _around(mask: NDArray[np.bool_]) -> Box:
    """The rectangle of the least area around a component, upright where that costs little."""
    rows = np.flatnonzero(mask.any(axis=1))
    first = mask.argmax(axis=1)[rows]
    last = mask.shape[1] - 1 - mask[:, ::-1].argmax(axis=1)[rows]
    points = np.concatenate([np.stack([first, rows], axis=1), np.stack([last, rows], axis=1)])
    along, across = points @ _ALONG, points @ _ACROSS
    width, height = np.ptp(along, axis=0), np.ptp(across, axis=0)
    area = (width + 1) * (height + 1)
    best = int(area.argmin())
    if area[_LEVEL] <= UPRIGHT * area[best]:
        best = _LEVEL
    middle = (along[:, best].max() + along[:, best].min()) / 2 * _ALONG[:, best] + (
        across[:, best].max() + across[:, best].min()
    ) / 2 * _ACROSS[:, best]
    return Box(
        float(middle[0]), float(middle[1]), float(width[best]), float(height[best]), float(_ANGLES[best])
    )


def in_order(lines: Sequence[Points]) -> list[list[list[int]]]:
    """The lines, by their corners, in the order in which one reads them: blocks, rows in a block, lines in a row.

    `lines` are (4, 2) each, from a line's own top left clockwise; most of them say which way the picture is up.
    Lines are of one block where they follow each other in a row, or stand below each other in about one size: so
    columns are read one after the other.
    """
    if not lines:
        return []
    corners = _turned(np.stack(lines))
    (left, top), (right, bottom) = corners.min(axis=1).T, corners.max(axis=1).T
    size = np.minimum(*(np.linalg.norm(corners[:, to] - corners[:, 0], axis=1) for to in (1, 3)))
    block = list(range(len(lines)))
    for one in range(len(lines)):
        small, large = np.minimum(size, size[one]), np.maximum(size, size[one])
        beside = np.minimum(bottom, bottom[one]) - np.maximum(top, top[one])
        over = np.minimum(right, right[one]) - np.maximum(left, left[one])
        joined = (beside > 0.5 * small) & (over > -1.5 * large)
        joined |= (over > 0) & (beside > -1.0 * large) & (large < 1.6 * small)
        for other in np.flatnonzero(joined[:one]):
            former, mine = block[other], block[one]
            block = [mine if label == former else label for label in block]
    members: dict[int, list[int]] = {}
    for index, label in enumerate(block):
        members.setdefault(label, []).append(index)
    blocks: list[list[int]] = []
    for its in sorted(members.values(), key=lambda its: float(top[its].min())):
        # What begins within a line's height of another block stands beside it: from the left.
        beside = [
            at for at, other in enumerate(blocks) if top[its].min() < top[other].min() + size[other].max()
        ]
        place = next((at for at in beside if left[its].min() < left[blocks[at]].min()), len(blocks))
        blocks.insert(place, its)
    return [_rows(its, top, bottom, left) for its in blocks]


def _turned(corners: Points) -> Points:
    """Corners (n, 4, 2) turned by quarters until most of the length of all lines runs to the right."""
    along = corners[:, 1] - corners[:, 0]
    quarters = np.round(np.arctan2(along[:, 1], along[:, 0]) / (np.pi / 2)).astype(int) % 4
    most = int(np.bincount(quarters, np.linalg.norm(along, axis=1), minlength=4).argmax())
    for _ in range(most):
        corners = np.stack([corners[..., 1], -corners[..., 0]], axis=-1)
    return corners


def _rows(its: Sequence[int], top: Points, bottom: Points, left: Points) -> list[list[int]]:
    rows: list[list[int]] = []
    middle = (top + bottom) / 2
    for index in sorted(its, key=lambda one: middle[one]):
        # A row goes on while the middle of the next box lies within the first one's height.
        if rows and middle[index] < bottom[rows[-1][0]] - 0.25 * (bottom[rows[-1][0]] - top[rows[-1][0]]):
            rows[-1].append(index)
        else:
            rows.append([index])
    return [sorted(row, key=lambda one: left[one]) for row in rows]
