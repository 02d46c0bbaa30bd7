from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.alignment.viterbi import ctc_viterbi
from spiritlm.errors import InputError


def random_log_probs(seed: int, frames: int, vocabulary: int) -> np.ndarray:
    logits = 3 * np.random.default_rng(seed).standard_normal((frames, vocabulary))
    return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)


def best_score(log_probs: np.ndarray, labels: list[int], blank: int) -> float:
    """The same search, spelt out over whole tables."""
    states = [blank, *(symbol for label in labels for symbol in (label, blank))]
    scores = np.full((len(log_probs), len(states)), -np.inf)
    scores[0, :2] = log_probs[0, states[:2]]
    for t in range(1, len(log_probs)):
        for s, symbol in enumerate(states):
            before = [scores[t - 1, s]]
            if s > 0:
                before.append(scores[t - 1, s - 1])
            if s > 1 and symbol not in (blank, states[s - 2]):
                before.append(scores[t - 1, s - 2])
            scores[t, s] = max(before) + log_probs[t, symbol]
    return float(scores[-1, -2:].max())


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(1, 150),
    labels=st.lists(st.integers(0, 3), max_size=60),
    blank=st.integers(0, 4),
)
def test_the_path_is_the_best_of_all(seed: int, frames: int, labels: list[int], blank: int) -> None:
    labels = [label + (label >= blank) for label in labels]  # never the blank
    repeats = sum(a == b for a, b in pairwise(labels))
    log_probs = random_log_probs(seed, frames, 5)
    if len(labels) + repeats > frames:
        with pytest.raises(InputError, match="at least"):
            ctc_viterbi(log_probs, np.array(labels, np.int32), blank)
        return
    path = ctc_viterbi(log_probs, np.array(labels, np.int32), blank)
    assert path.score == pytest.approx(best_score(log_probs, labels, blank), abs=1e-3)
    assert np.all(path.first <= path.last)
    assert np.all(path.last[:-1] < path.first[1:])
    total = -F.ctc_loss(
        torch.from_numpy(log_probs)[:, None], torch.tensor([labels]), [frames], [len(labels)], blank, reduction="sum"
    )
    assert path.score <= float(total) + 1e-3
    spelt = np.full(frames, blank)
    for label, first, last in zip(labels, path.first, path.last, strict=True):
        spelt[first : last + 1] = label
    np.testing.assert_array_equal(path.frame_scores, log_probs[np.arange(frames), spelt])


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), frames=st.integers(1000, 6000))
def test_planted_labels_are_found_in_long_recordings(seed: int, frames: int) -> None:
    rng = np.random.default_rng(seed)
    places = np.sort(rng.choice(frames, size=frames // 4, replace=False))
    labels = 1 + 10 * (np.arange(len(places)) % 3) + rng.integers(10, size=len(places))  # never two equal in a row
    log_probs = np.full((frames, 32), -8, np.float32)
    log_probs[:, 0] = -0.01
    log_probs[places, 0] = -8
    log_probs[places, labels] = -0.01
    path = ctc_viterbi(log_probs, labels, 0)
    np.testing.assert_array_equal(path.first, places)
    np.testing.assert_array_equal(path.last, places)


def test_without_labels_all_is_blank() -> None:
    path = ctc_viterbi(random_log_probs(0, 5, 3), np.zeros(0, np.int32), 2)
    assert path.score == pytest.approx(float(random_log_probs(0, 5, 3)[:, 2].sum()))
    assert len(path.first) == 0


@pytest.mark.parametrize(
    ("labels", "message"), [([1, 1, 1], "at least 5 frames"), ([3], "ids under 3"), ([0], "other than blank = 0")]
)
def test_impossible_labels_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ctc_viterbi(random_log_probs(0, 4, 3), np.array(labels), 0)


def test_no_finite_path_is_refused() -> None:
    log_probs = random_log_probs(0, 4, 3)
    log_probs[:, 1] = -np.inf
    with pytest.raises(InputError, match="finite"):
        ctc_viterbi(log_probs, np.array([1]), 0)
