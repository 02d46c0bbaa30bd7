from itertools import pairwise

import numpy as np

from spiritlm.units.picture import Mark, timeline, unit_color
from spiritlm.units.protocol import UnitStream


def test_cells_numbers_and_words_are_where_they_are_heard() -> None:
    slow = UnitStream(np.array([3, 3, 4, 5]), 4.0)
    fast = UnitStream(np.arange(300) % 100, 300.0)
    picture = timeline(
        np.zeros(16_000, np.float32), 16_000, [("slow", slow), ("fast", fast)],
        [Mark("p", 0.1, 0.9)], [Mark("word", 0.1, 0.9), Mark("later", 1.2, 1.4)], 0.0, 1.0,
    )  # fmt: skip
    rows = {row.get_ylabel(): row for row in picture.axes}
    assert list(rows) == ["sound", "slow", "fast", "phones", "words"]
    cells = [(box.get_x(), box.get_width()) for box in rows["slow"].patches]
    assert cells == [(0.0, 0.5), (0.5, 0.25), (0.75, 0.25)]
    assert [text.get_text() for text in rows["slow"].texts] == ["3", "4", "5"]
    assert not rows["fast"].texts  # no room
    assert [text.get_text() for text in rows["words"].texts] == ["word"]
    assert all(row.get_xlim() == (0.0, 1.0) for row in rows.values())


def test_no_text_reaches_over_another() -> None:
    rng = np.random.default_rng(0)
    streams = [
        (name, UnitStream(rng.integers(0, 1024, 100), rate)) for name, rate in (("a", 12.5), ("b", 25.0), ("c", 50.0))
    ]
    words = [Mark("wonderful", i / 5, (i + 1) / 5) for i in range(12)]
    picture = timeline(rng.normal(size=40_000).astype(np.float32), 16_000, streams, words, words, 0.0, 2.4)
    picture.canvas.draw()
    for row in picture.axes:
        boxes = sorted((text.get_window_extent() for text in row.texts), key=lambda box: box.x0)
        assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_neighbours_in_the_vocabulary_differ_in_colour() -> None:
    colors = np.array([unit_color(unit) for unit in range(50)])
    assert np.abs(np.diff(colors, axis=0)).max(axis=1).min() > 0.1
