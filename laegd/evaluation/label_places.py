"""Where the names on a map go: greedily, each where it covers least of what is there already."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# Around a node, in the order in which they read best: right, left, above, below, then the corners.
DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_OUTSIDE = 1e3  # leaving the map is worse than any overlap on it


class LabelPlaces:
    """Boxes that are taken on a square map; a box is (left, bottom, right, top)."""

    def __init__(self, map_box: tuple[float, float, float, float]) -> None:
        self._map_box = np.array(map_box)
        self._taken: list[tuple[float, float, float, float]] = []

    def take(self, x: float, y: float, radius: float) -> None:
        """Reserves the square around a marker."""
        self._taken.append((x - radius, y - radius, x + radius, y + radius))

    def take_line(self, start: Sequence[float], end: Sequence[float], step: float) -> None:
        """Reserves small squares along a line, so that names are not struck through."""
        count = max(2, int(math.dist(start, end) / step))
        for x, y in np.linspace(start, end, count)[1:-1]:
            self.take(float(x), float(y), step / 4)

    def place(self, x: float, y: float, away: float, width: float, height: float) -> tuple[float, float]:
        """Returns the centre of a free place for a name beside a marker of radius `away`, and takes it."""
        boxes = []
        for right, up in DIRECTIONS:
            # at a corner the marker's circle leaves room that its square does not
            reach = away * (0.7 if right and up else 1.0)
            cx, cy = x + right * (reach + width / 2), y + up * (reach + height / 2)
            boxes.append((cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2))
        costs = [self._cost(np.array(box)) + 1e-3 * width * height * rank for rank, box in enumerate(boxes)]
        best = boxes[int(np.argmin(costs))]
        self._taken.append(best)
        return (best[0] + best[2]) / 2, (best[1] + best[3]) / 2

    def _cost(self, box: Float[np.ndarray, "4"]) -> float:
        area = (box[2] - box[0]) * (box[3] - box[1])
        inside = _overlap(box, self._map_box[None])[0]
        covered = _overlap(box, np.array(self._taken)).sum() if self._taken else 0.0
        return float(covered + _OUTSIDE * (area - inside))


def _overlap(box: Float[np.ndarray, "4"], others: Float[np.ndarray, "box 4"]) -> Float[np.ndarray, "box"]:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return np.maximum(sides, 0.0).prod(axis=1)
