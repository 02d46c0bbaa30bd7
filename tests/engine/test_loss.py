from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from spiritlm.corpus.datasets import PackedSample
from spiritlm.engine import loss as loss_module
from spiritlm.engine.batches import Batch, StepBatches, collate, evaluation_batches
from spiritlm.engine.loss import VocabularyLoss, likeliest_ids, reduced_losses, reported_losses
from spiritlm.engine.parallel import Place, process_groups

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:megatron")


@pytest.fixture(autouse=True)
def groups() -> Iterator[None]:
    with process_groups(seed=0):
        yield


def row(position: int, length: int = 3) -> PackedSample:
    ids, begins = np.full(length, position), np.array([0, length], dtype=np.int32)
    return PackedSample(ids, ids + 1, np.ones(length, dtype=np.float32), np.zeros(length, dtype=np.uint8), begins)


class Rows:
    def __getitem__(self, position: int) -> PackedSample:
        return row(position)

    def shares(self, positions: int) -> dict[str, float]:
        return {"rows": 1.0}


def whole_vocabulary() -> object:
    from megatron.core import parallel_state

    return parallel_state.get_tensor_model_parallel_group()


@pytest.mark.parametrize("at_once", [2**25, 100])  # all tokens at once, three at a time
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_the_loss_and_its_gradients_are_those_of_all_logits(
    at_once: int, z_loss: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", at_once)
    torch.manual_seed(0)
    hidden, weight = torch.randn(10, 8, requires_grad=True), torch.randn(33, 8, requires_grad=True)
    labels, weights = torch.randint(33, (10,)), torch.rand(10) * (torch.rand(10) < 0.7)
    total, losses = VocabularyLoss.apply(hidden, weight, labels, weights, z_loss, whole_vocabulary())
    (3 * total).backward()
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    logits = hidden @ weight.T
    expected = F.cross_entropy(logits, labels, reduction="none")
    whole = (weights * (expected + z_loss * logits.logsumexp(1).square())).sum()
    (3 * whole).backward()
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(total, whole)
    for ours, theirs in zip(found, (hidden.grad, weight.grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_a_masked_label_may_have_any_loss() -> None:
    hidden = torch.tensor([[float("nan")], [2.0]], requires_grad=True)
    weight = torch.tensor([[1.0], [-1.0]], requires_grad=True)
    labels, weights = torch.tensor([0, 0]), torch.tensor([0.0, 1.0])
    total, _ = VocabularyLoss.apply(hidden, weight, labels, weights, 0.0, whole_vocabulary())
    total.backward()
    assert total.item() == pytest.approx(np.log1p(np.exp(-4.0)), rel=1e-4)
    assert hidden.grad is not None
    assert hidden.grad[0].item() == 0


def test_each_modality_is_accounted_for_over_micro_batches() -> None:
    def batch(mask: list[float], modality: list[int]) -> Batch:
        sample = row(0, len(mask))
        return collate([
            PackedSample(
                sample.input_ids, sample.labels, np.array(mask, np.float32), np.array(modality, np.uint8),
                sample.cu_seqlens,
            )
        ])  # fmt: skip

    first = reported_losses(torch.tensor([[1.0, 2.0, 100.0]]), batch([1, 1, 0], [0, 1, 1]))
    second = reported_losses(torch.tensor([[4.0, 6.0, 3.0]]), batch([1, 1, 1], [1, 1, 0]))
    assert (first[0].item(), second[0].item()) == (2, 3)
    assert reduced_losses([first[1], second[1]]) == {"loss": 16 / 5, "loss_text": 2.0, "loss_semantic": 4.0}
    only_text = reported_losses(torch.tensor([[1.0]]), batch([1], [0]))
    assert reduced_losses([only_text[1]]) == {"loss": 1, "loss_text": 1}
    assert reduced_losses([]) == {"loss": 0.0}


def test_the_likeliest_ids_are_ids_whatever_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that has become NaN is asked too: what it says is fed back to it."""
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", 3 * 33)
    hidden, weight = torch.randn(5, 2, 8), torch.randn(33, 8)
    hidden[2, 1] = torch.nan
    found = likeliest_ids(hidden, weight, SimpleNamespace(sequence_parallel=False))
    expected = (hidden @ weight.T).argmax(dim=2).T
    assert torch.equal(found[0], expected[0])
    assert set(found.flatten().tolist()) <= set(range(33))


@pytest.mark.parametrize(("ranks", "micro_batch_size"), [(1, 8), (1, 2), (2, 4), (2, 2), (4, 1)])
def test_a_step_sees_the_same_rows_under_every_layout(ranks: int, micro_batch_size: int) -> None:
    seen = []
    for rank in range(ranks):
        batches = StepBatches(Rows(), 8, micro_batch_size, Place(rank, ranks))
        with batches.reading_ahead():
            for step in (5, 6, 5):
                found = batches.of_step(step)
        assert all(len(batch.input_ids) == micro_batch_size for batch in found)
        seen += [position for batch in found for position in batch.input_ids[:, 0].tolist()]
    assert seen == list(range(40, 48))


def test_every_rank_evaluates_as_many_batches() -> None:
    samples = [row(number) for number in range(1, 8)]
    for multiple in (1, 3):
        shares = [evaluation_batches(samples, 2, Place(rank, 3), multiple) for rank in range(3)]
        assert {len(share) for share in shares} == {2 if multiple == 1 else 3}
        assert {len(batch.input_ids) for share in shares for batch in share} == {2}
        kept = torch.cat([batch.input_ids[batch.loss_mask > 0] for share in shares for batch in share])
        assert sorted(kept.tolist()) == sorted(3 * list(range(1, 8)))
