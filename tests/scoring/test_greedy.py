import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.scoring.greedy import Prompt, greedy


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        initializer_range=0.3,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    rng = np.random.default_rng(0)
    return [Prompt(rng.integers(0, 60, rng.integers(1, 30)), int(rng.integers(1, 12))) for _ in range(23)]


def step_by_step(model: LlamaForCausalLM, prompt: Prompt, ends: list[int], banned: list[int]) -> list[int]:
    ids = prompt.ids.tolist()
    with torch.inference_mode():
        for _ in range(prompt.most):
            logits = model(input_ids=torch.tensor([ids])).logits[0, -1]
            logits[banned] = -torch.inf
            if int(logits.argmax()) in ends:
                break
            ids.append(int(logits.argmax()))
    return ids[len(prompt.ids) :]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_likeliest_token_again_and_again(model: LlamaForCausalLM, prompts: list[Prompt], batch_size: int) -> None:
    ends, banned = [3, 4, *range(20, 30)], list(range(40, 60))
    expected = [step_by_step(model, prompt, ends, banned) for prompt in prompts]
    assert [ids.tolist() for ids in greedy(model, prompts, ends, banned, batch_size)] == expected
    lengths = {len(ids) for ids in expected}
    assert 0 in lengths
    assert any(len(ids) == prompt.most for ids, prompt in zip(expected, prompts, strict=True))
    assert not {id for ids in expected for id in ids} & {*ends, *banned}
