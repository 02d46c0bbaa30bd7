import numpy as np
import pytest

from spiritlm.scoring.ngram import NGram
from spiritlm.scoring.rows import TokenRequest

SEQUENCES = [np.array([1, 2, 3, 1, 2, 4]), np.array([1, 2, 3])]


@pytest.mark.parametrize("context", [(), (1,), (1, 2), (9, 9), (3, 1, 2)])
def test_probabilities_sum_to_one(context: tuple[int, ...]) -> None:
    model = NGram(SEQUENCES, vocabulary_size=10)
    assert sum(model.probability(context, id) for id in range(10)) == pytest.approx(1)


def test_what_was_seen_after_the_context_is_likelier() -> None:
    model = NGram(SEQUENCES, vocabulary_size=10)
    assert model.probability((1, 2), 3) > model.probability((1, 2), 4) > model.probability((1, 2), 5)


def test_the_continuation_alone_is_scored() -> None:
    model = NGram(SEQUENCES, vocabulary_size=10)
    score = model.loglikelihood([TokenRequest(np.array([1, 2]), np.array([3, 1]))])[0]
    assert score.total == pytest.approx(np.log(model.probability((1, 2), 3)) + np.log(model.probability((2, 3), 1)))
    assert score.tokens == 2
    marked = model.loglikelihood([TokenRequest(np.array([1, 2]), np.array([3, 1]), np.array([False, True]))])[0]
    assert (marked.total, marked.tokens) == (pytest.approx(np.log(model.probability((2, 3), 1))), 1)
