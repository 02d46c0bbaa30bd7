import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.errors import InputError
from spiritlm.synthesis.conformer import EncoderShape
from spiritlm.synthesis.estimator import EstimatorShape
from spiritlm.synthesis.flow import Flow, FlowConfig, Known
from spiritlm.synthesis.flow_stream import FlowStream
from spiritlm.synthesis.noise import noise_at

MELS = 12


def flow_of(left_blocks: int | None = 2, look_ahead: int = 3) -> Flow:
    torch.manual_seed(0)
    encoder = EncoderShape(
        width=16, heads=2, feed_forward=32, layers=2, block=5, left_blocks=left_blocks, look_ahead=look_ahead,
        up_layers=1, up_stride=4,
    )  # fmt: skip
    estimator = EstimatorShape(
        channels=(16,), blocks=1, mid_blocks=2, heads=2, head_size=8, causal=True, block=20, left_blocks=left_blocks
    )
    config = FlowConfig(
        vocabulary_size=30, unit_rate=12.5, mels=MELS, frame_rate=50, input_size=16, speaker_size=8, encoder=encoder,
        regulator_layers=0, estimator=estimator,
    )  # fmt: skip
    return Flow(config).eval()


def streamed(flow: Flow, units: torch.Tensor, sizes: list[int], speaker: torch.Tensor) -> torch.Tensor:
    stream, cuts = FlowStream(flow, speaker, steps=4), np.cumsum(sizes)
    return torch.cat([stream.push(piece) for piece in units.tensor_split(cuts.tolist())] + [stream.finish()], dim=1)


@torch.inference_mode()
def whole(flow: Flow, units: torch.Tensor, speaker: torch.Tensor) -> torch.Tensor:
    condition = flow.condition(units[None]).transpose(1, 2)
    known = Known(condition, flow.voice(speaker), torch.zeros_like(condition))
    return flow.solve(noise_at(0, condition.shape[2], MELS), known, steps=4)[0]


@settings(max_examples=15, deadline=None)
@given(length=st.integers(1, 43), sizes=st.lists(st.integers(0, 17), max_size=6), left=st.sampled_from([None, 1, 3]))
def test_pieces_are_the_whole(length: int, sizes: list[int], left: int | None) -> None:
    flow = flow_of(left, look_ahead=3 if left else 0)
    units, speaker = torch.randint(30, (length,)), torch.randn(1, 8)
    torch.testing.assert_close(streamed(flow, units, sizes, speaker), whole(flow, units, speaker), atol=1e-4, rtol=0)


def test_mel_of_a_block_waits_for_its_look_ahead_alone() -> None:
    stream = FlowStream(flow_of(), torch.randn(1, 8), steps=2)
    units = torch.randint(30, (20,))
    assert [stream.push(unit[None]).shape[1] for unit in units] == [20 * (n in (8, 13, 18)) for n in range(1, 21)]
    assert stream.finish().shape == (MELS, 20)


def test_a_prompt_is_heard_and_not_given_out() -> None:
    flow, units, speaker = flow_of(), torch.randint(30, (22,)), torch.randn(1, 8)
    prompt = torch.randn(MELS, 28)
    stream = FlowStream(flow, speaker, 4, units[:7], prompt)
    mel = torch.cat([stream.push(units[7:]), stream.finish()], dim=1)
    assert mel.shape == (MELS, 4 * 15)
    with torch.inference_mode():
        condition = flow.condition(units[None]).transpose(1, 2)
        held = torch.zeros_like(condition)
        held[0, :, :28] = prompt
        known = Known(condition, flow.voice(speaker), held)
        expected = flow.solve(noise_at(0, 88, MELS), known, steps=4)[0, :, 28:]
    torch.testing.assert_close(mel, expected, atol=1e-4, rtol=0)


def test_a_prompt_of_two_lengths_is_refused() -> None:
    with pytest.raises(InputError, match="7 units and 27 mel frames"):
        FlowStream(flow_of(), torch.zeros(1, 8), 4, torch.zeros(7, dtype=torch.int64), torch.zeros(MELS, 27))


def test_a_shorter_row_of_a_batch_is_what_it_is_alone() -> None:
    flow, units = flow_of(), torch.randint(30, (2, 17))
    with torch.inference_mode():
        both = flow.batch_condition(units, torch.tensor([17, 11]), torch.tensor([68, 44]))
        torch.testing.assert_close(both[1:, :44], flow.condition(units[1:, :11]), atol=1e-5, rtol=0)


def test_what_is_not_causal_does_not_stream() -> None:
    encoder = EncoderShape(width=16, heads=2, feed_forward=32, layers=1)
    estimator = EstimatorShape(channels=(16, 16), blocks=1, mid_blocks=1, heads=2, head_size=8)
    config = FlowConfig(
        layout="glm", vocabulary_size=30, unit_rate=12.5, mels=MELS, frame_rate=22050 / 256, input_size=16,
        encoder=encoder, estimator=estimator,
    )  # fmt: skip
    with pytest.raises(InputError, match="does not stream"):
        FlowStream(Flow(config), torch.zeros(1, 192))
