"""The best path of a CTC model through a known sequence of labels.

Log-probabilities of every frame and the labels that were said, in order, come in; the frames of each label go out.
The search is exact. Scores are kept for every `sqrt(frames)`-th frame only and the stretches between are searched
again backwards, each in the band of states that can lead to where the path goes on, so memory grows with
`labels * sqrt(frames)`: an hour of speech takes some 200 MB instead of 20 GB, for a few per cent more time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from spiritlm.errors import InputError

_njit = numba.njit(cache=True, nogil=True)


@dataclass(frozen=True)
class CtcPath:
    """One label or blank for each frame."""

    first: np.ndarray
    """int32 `[labels]`: the first frame of each label."""
    last: np.ndarray
    """int32 `[labels]`: its last frame, at least `first`."""
    frame_scores: np.ndarray
    """float32 `[frames]`: log-probability of the path in each frame."""

    @property
    def score(self) -> float:
        """Log-probability of the path."""
        return float(self.frame_scores.sum(dtype=np.float64))


def ctc_viterbi(log_probs: np.ndarray, labels: np.ndarray, blank: int) -> CtcPath:
    """The most probable path through `labels`; of equal ones, that which stays with a label longest.

    `log_probs`: float32 `[frames, vocabulary]`, natural logarithms; `labels`: int `[n]`, none of them `blank`.
    Raises `InputError` where the frames are too few (each label takes one, and one more between two equal ones),
    a label is not in the vocabulary, or no path has a finite score.
    """
    log_probs = np.ascontiguousarray(log_probs, dtype=np.float32)
    labels = np.ascontiguousarray(labels, dtype=np.int32)
    frames, vocabulary = log_probs.shape
    if len(labels) and not (labels.min() >= 0 and labels.max() < vocabulary and np.all(labels != blank)):
        raise InputError(f"labels: expected ids under {vocabulary} other than blank = {blank}")
    needed = len(labels) + int(np.count_nonzero(labels[1:] == labels[:-1]))
    if not frames or needed > frames:
        raise InputError(f"{len(labels)} labels take at least {max(1, needed)} frames, but the sound has {frames}")
    emitted = np.full(2 * len(labels) + 1, blank, np.int32)
    emitted[1::2] = labels
    skips = np.zeros(len(emitted), np.bool_)
    skips[3::2] = labels[1:] != labels[:-1]
    stride = max(64, int(np.sqrt(frames)))
    kept = _forward(log_probs, emitted, skips, stride)
    states = _backward(log_probs, emitted, skips, stride, kept)
    frame_scores = log_probs[np.arange(frames), emitted[states]]
    numbers = np.arange(len(labels))
    first = np.searchsorted(states, 2 * numbers + 1).astype(np.int32)
    last = (np.searchsorted(states, 2 * numbers + 1, side="right") - 1).astype(np.int32)
    if not np.isfinite(frame_scores).all() or np.any(last < first):
        raise InputError("no path through the labels has a finite score")
    return CtcPath(first, last, frame_scores)


# State 2 i + 1 is label i, state 2 i the blank before it; the last state is the blank after all labels. `emitted` is
# the id each state says, int32 [states]; `skips` where the blank before a label may be left out, bool [states].


@_njit
def _advance(
    scores: np.ndarray, emissions: np.ndarray, emitted: np.ndarray, skips: np.ndarray, backs: np.ndarray
) -> None:
    """One frame on: `scores` in place; `backs`, int8 `[states]`, by how many states each best path advanced."""
    for state in range(len(scores) - 1, -1, -1):
        best, back = scores[state], 0
        if state > 0 and scores[state - 1] > best:
            best, back = scores[state - 1], 1
        if state > 1 and skips[state] and scores[state - 2] > best:
            best, back = scores[state - 2], 2
        scores[state] = best + emissions[emitted[state]]
        backs[state] = back


@_njit
def _forward(log_probs: np.ndarray, emitted: np.ndarray, skips: np.ndarray, stride: int) -> np.ndarray:
    """Best scores of all states, float32 `[1 + (frames - 1) // stride, states]`, at every `stride`-th frame.

    Relative to the best state of the frame: what is kept stays small, however long the recording.
    """
    frames, states = len(log_probs), len(emitted)
    scores = np.full(states, -np.inf, np.float64)
    scores[:2] = log_probs[0][emitted[:2]]
    backs = np.empty(states, np.int8)
    kept = np.empty((1 + (frames - 1) // stride, states), np.float32)
    for frame in range(frames):
        # states that can be reached, and from which the end can be
        low, high = max(0, states - 2 * (frames - frame) - 2), min(states, 2 * frame + 2)
        if frame > 0:
            _advance(scores[low:high], log_probs[frame], emitted[low:high], skips[low:high], backs)
        if frame % stride == 0:
            kept[frame // stride] = scores - scores[low:high].max()
    return kept


@_njit
def _backward(
    log_probs: np.ndarray, emitted: np.ndarray, skips: np.ndarray, stride: int, kept: np.ndarray
) -> np.ndarray:
    """The state of each frame, int32 `[frames]`."""
    frames, states = len(log_probs), len(emitted)
    path = np.empty(frames, np.int32)
    backs = np.empty((stride, 2 * stride + 2), np.int8)
    top = states - 1
    for block in range(len(kept) - 1, -1, -1):
        start = block * stride
        end = min(start + stride, frames - 1)
        low = max(0, top - 2 * (end - start) - 1)  # the path ends in `top`, or at the last frame in the state before it
        band = slice(low, top + 1)
        scores = kept[block, band].astype(np.float64)
        for frame in range(start + 1, end + 1):
            _advance(scores, log_probs[frame], emitted[band], skips[band], backs[frame - start - 1])
        at = top - low
        if end == frames - 1 and block == len(kept) - 1 and at > 0 and scores[at - 1] > scores[at]:
            at -= 1
        for frame in range(end, start, -1):
            path[frame] = low + at
            at -= backs[frame - start - 1, at]
        top = low + at
    path[0] = top
    return path
