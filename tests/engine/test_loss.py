import numpy as np
import pytest
import torch

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine.batches import Batch, StepBatches, collate, evaluation_batches
from spiritlm.engine.loss import masked_loss, reduced_losses
from spiritlm.engine.parallel import process_groups


def row(position: int, length: int = 3) -> PackedSample:
    ids, begins = np.full(length, position), np.array([0, length], dtype=np.int32)
    return PackedSample(ids, ids + 1, np.ones(length, dtype=np.float32), np.zeros(length, dtype=np.uint8), begins)


class Rows:
    def __getitem__(self, position: int) -> PackedSample:
        return row(position)

    def shares(self, positions: int) -> dict[str, float]:
        return {"rows": 1.0}


@pytest.mark.filterwarnings("ignore::UserWarning:megatron")
def test_each_modality_is_accounted_for_over_micro_batches() -> None:
    def batch(mask: list[float], modality: list[int]) -> Batch:
        ids = torch.zeros(1, len(mask), dtype=torch.int64)
        return Batch(ids, ids, torch.tensor([mask]), torch.tensor([modality], dtype=torch.uint8))

    first = masked_loss(torch.tensor([[1.0, 2.0, 100.0]]), batch([1, 1, 0], [0, 1, 1]))
    second = masked_loss(torch.tensor([[4.0, 6.0, 3.0]]), batch([1, 1, 1], [1, 1, 0]))
    assert (first[0].item(), first[1].item(), second[0].item(), second[1].item()) == (3.0, 2, 13.0, 3)
    with process_groups(seed=0):
        assert reduced_losses([first[2], second[2]]) == {"loss": 16 / 5, "loss_text": 2.0, "loss_semantic": 4.0}
        assert reduced_losses([masked_loss(torch.tensor([[1.0]]), batch([1], [0]))[2]]) == {"loss": 1, "loss_text": 1}


def test_a_masked_label_may_have_any_loss() -> None:
    batch = collate([row(0, 2)])
    batch.loss_mask[0, 0] = 0
    loss, tokens, sums = masked_loss(torch.tensor([[float("nan"), 2.0]]), batch)
    assert (loss.item(), tokens.item(), sums[0].tolist()) == (2.0, 1, [2.0, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(1, 8), (1, 2), (2, 4), (2, 2), (4, 1)])
def test_a_step_sees_the_same_rows_under_every_layout(ranks: int, micro_batch_size: int) -> None:
    seen = []
    for rank in range(ranks):
        batches = StepBatches(Rows(), 8, micro_batch_size, rank, ranks)
        with batches.reading_ahead():
            for step in (5, 6, 5):
                found = batches.of_step(step)
        assert all(len(batch.input_ids) == micro_batch_size for batch in found)
        seen += [position for batch in found for position in batch.input_ids[:, 0].tolist()]
    assert seen == list(range(40, 48))


def test_every_rank_evaluates_as_many_batches() -> None:
    samples = [row(number) for number in range(1, 8)]
    shares = [evaluation_batches(samples, 2, rank, 3) for rank in range(3)]
    assert {len(share) for share in shares} == {2}
    kept = torch.cat([batch.input_ids[batch.loss_mask > 0] for share in shares for batch in share])
    assert sorted(kept.tolist()) == sorted(3 * list(range(1, 8)))
