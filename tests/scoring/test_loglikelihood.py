import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.scoring.loglikelihood import Request, loglikelihood


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.1,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def requests() -> list[Request]:
    rng = np.random.default_rng(0)
    return [
        Request(rng.integers(0, 60, rng.integers(1, 30)), rng.integers(0, 60, rng.integers(1, 9))) for _ in range(23)
    ]


def test_score_is_the_sum_of_token_log_probabilities(model: LlamaForCausalLM, requests: list[Request]) -> None:
    request = requests[0]
    ids = torch.from_numpy(np.concatenate(request))[None]
    with torch.inference_mode():
        log_p = model(input_ids=ids).logits[0].double().log_softmax(-1)
    start = len(request.prompt)
    expected = sum(float(log_p[p - 1, ids[0, p]]) for p in range(start, ids.shape[1]))
    score = loglikelihood(model, [request])[0]
    assert score.total == pytest.approx(expected, abs=1e-6)
    assert score.tokens == len(request.continuation)


def test_batch_size_and_order_change_nothing(model: LlamaForCausalLM, requests: list[Request]) -> None:
    alone = loglikelihood(model, requests, batch_size=1)
    for batch_size in (7, 64):
        batched = loglikelihood(model, requests, batch_size)
        np.testing.assert_allclose([s.mean for s in batched], [s.mean for s in alone], atol=1e-6)
    turned = loglikelihood(model, requests[::-1], batch_size=7)[::-1]
    np.testing.assert_allclose([s.mean for s in turned], [s.mean for s in alone], atol=1e-6)
