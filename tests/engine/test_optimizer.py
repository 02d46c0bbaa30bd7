import math
from itertools import pairwise

import pytest

from spiritlm.engine.model import ModelConfig, build_chunks, wrap_data_parallel
from spiritlm.engine.optimizer import OptimizerConfig, ScheduleConfig, build_optimizer
from spiritlm.engine.parallel import process_groups
from spiritlm.errors import InputError


def test_schedule_warm_up_flat_and_linear_decay() -> None:
    schedule = ScheduleConfig(decay="linear", warmup_steps=4, flat_fraction=0.5, final_factor=0.02)
    factors = [schedule.factor(step, 20) for step in range(20)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[9] == 1.0
    assert factors[10] == pytest.approx(1 - 0.98 / 10)
    assert factors[19] == pytest.approx(0.02)
    falls = [before - after for before, after in pairwise(factors[10:])]
    assert falls == pytest.approx([0.098] * 9)


def test_schedule_cosine_and_constant() -> None:
    cosine = ScheduleConfig(decay="cosine", warmup_steps=2, final_factor=0.1)
    assert cosine.factor(1, 10) == 1.0
    assert cosine.factor(5, 10) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * 4 / 8)) / 2)
    assert cosine.factor(9, 10) == pytest.approx(0.1)
    assert [ScheduleConfig(decay="none", warmup_steps=2).factor(step, 9) for step in (0, 1, 8)] == [0.5, 1.0, 1.0]
    with pytest.raises(InputError, match="no meaning"):
        ScheduleConfig(decay="none", final_factor=0.1)


@pytest.mark.filterwarnings("ignore::UserWarning:megatron")
def test_norms_and_the_embedding_are_not_decayed() -> None:
    config = ModelConfig(hidden_size=32, layers=2, heads=2, kv_heads=2, ffn_hidden_size=48)
    with process_groups(seed=0):
        (model,) = wrap_data_parallel(build_chunks(config, 64, "fp32"))
        groups = build_optimizer(OptimizerConfig(lr=1e-3, weight_decay=0.3), "fp32", [model]).param_groups
    counts = {group["weight_decay"]: sum(p.numel() for p in group["params"]) for group in groups}
    norms = 2 * 2 * 32 + 32
    assert counts[0.0] == 64 * 32 + norms
    assert counts[0.3] == sum(p.numel() for p in model.parameters()) - counts[0.0]
