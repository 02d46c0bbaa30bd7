import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.units import clustering
from spiritlm.units.clustering import streaming_kmeans

CENTRES = np.random.default_rng(1).normal(scale=10, size=(6, 4)).astype(np.float32)


def pieces(count, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield (CENTRES[rng.integers(6, size=100)] + 0.1 * rng.standard_normal((100, 4))).astype(np.float32)


@pytest.mark.parametrize("first", [500, 100], ids=["all at first", "most of it streamed"])
def test_finds_the_clusters(monkeypatch, first):
    monkeypatch.setattr(clustering, "FIRST_FRAMES", first)
    found = streaming_kmeans(pieces(30), 6, seed=0)
    assert found.dtype == np.float32 and np.array_equal(found, streaming_kmeans(pieces(30), 6, seed=0))
    nearest = np.linalg.norm(found[:, None] - CENTRES[None], axis=-1).min(axis=0)
    assert nearest.max() < 0.5


def test_memory_does_not_grow(monkeypatch):
    """No more is taken ahead of the clustering than a batch."""
    monkeypatch.setattr(clustering, "FIRST_FRAMES", 100)
    sizes, frames = [], clustering._frames

    def watched(*arguments):
        found = frames(*arguments)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(clustering, "_frames", watched)
    streaming_kmeans(pieces(200), 6, seed=0)
    assert sizes == [600, 4100, 4100, 4100, 4100, 3000, 0]


def test_too_little_to_fit():
    with pytest.raises(InputError, match="clusters = 101: the recordings have only 100 units"):
        streaming_kmeans(pieces(1), 101, seed=0)
