"""K-means over more frames than memory holds."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from spiritlm.errors import InputError

FIRST_FRAMES = 500
"""Frames for each cluster that are kept to start from."""
BATCH_FRAMES = 4096
EPOCHS = 60


def streaming_kmeans(features: Iterable[np.ndarray], clusters: int, seed: int) -> np.ndarray:
    """Centroids float32 `[clusters, width]` of float32 `[frames, width]` pieces; the same pieces give the same.

    The first `FIRST_FRAMES * clusters` frames are clustered from a k-means++ start, in many passes; those after them
    move the centroids in one pass and are forgotten. The pieces should come in random order. Raises `InputError`
    where there are fewer frames than `clusters`.
    """
    from sklearn.cluster import MiniBatchKMeans  # seconds to import

    pieces = iter(features)
    first = _frames(pieces, FIRST_FRAMES * clusters)
    if len(first) < clusters:
        raise InputError(f"clusters = {clusters}: the recordings have only {len(first)} units to fit")
    start = MiniBatchKMeans(clusters, n_init=1, batch_size=BATCH_FRAMES, max_iter=EPOCHS, random_state=seed).fit(first)
    after = _frames(pieces, BATCH_FRAMES)
    if not len(after):
        return start.cluster_centers_.astype(np.float32)
    stream = MiniBatchKMeans(clusters, init=start.cluster_centers_, n_init=1, random_state=seed).partial_fit(first)
    del first
    while len(after):
        stream.partial_fit(after)
        after = _frames(pieces, BATCH_FRAMES)
    return stream.cluster_centers_.astype(np.float32)


def _frames(pieces: Iterable[np.ndarray], least: int) -> np.ndarray:
    """The next pieces together, `[frames, width]`: at least so many frames unless they end; none: `[0, 0]`."""
    taken, count = [], 0
    for piece in pieces:
        taken.append(piece)
        count += len(piece)
        if count >= least:
            break
    return np.concatenate(taken) if taken else np.zeros((0, 0), np.float32)
