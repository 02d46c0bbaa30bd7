import numpy as np
import pytest
import torch

from spiritlm.errors import InputError
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig
from spiritlm.units.vq_whisper_files import published_config
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

SMALL = {
    "d_model": 32, "num_mel_bins": 20, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 48,
    "pooling_position": 1, "quantize_position": 2, "quantize_vocab_size": 24, "quantize_causal_block_size": 16,
    "max_source_positions": 120,
}  # fmt: skip


def model(seed=0, **changes):
    torch.manual_seed(seed)
    return VqWhisper(VqWhisperConfig(**{**SMALL, **changes})).eval()


def mel(frames, seed=0, bins=20):
    return torch.randn(1, bins, frames, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pool", [1, 2, 4, 8])
def test_rates(pool):
    m = model(pooling_kernel_size=pool)
    assert m.config.rate == 50 / pool and m.config.unit_samples == 320 * pool
    vectors = m.encoder.vectors(mel(64), torch.ones(1, 64, dtype=torch.bool))
    assert vectors.shape == (1, 32 // pool, 32)


def test_without_pooling_its_place_means_nothing():
    ones = torch.ones(1, 64, dtype=torch.bool)
    found = [
        model(pooling_kernel_size=pool, pooling_position=place).encoder.vectors(mel(64), ones)
        for pool, place in ((None, None), (None, 0), (1, 2))
    ]
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    with pytest.raises(InputError, match="pooling_position = None"):
        model(pooling_kernel_size=4, pooling_position=None)


def test_a_block_that_is_no_whole_number_of_units_does_not_stream():
    m = model(quantize_causal_block_size=18)
    assert m.encoder.vectors(mel(64), torch.ones(1, 64, dtype=torch.bool)).shape == (1, 8, 32)
    with pytest.raises(InputError, match="blocks are not whole units"):
        VqWhisperTokenizer(m).stream()


def test_another_activation_is_refused():
    with pytest.raises(InputError, match="activation_function is 'relu', expected 'gelu'"):
        published_config({"activation_function": "relu", **SMALL})
    assert published_config({"activation_function": "gelu", "scale_embedding": True, **SMALL}).d_model == 32


@torch.inference_mode()
@pytest.mark.parametrize("changes", [{}, {"encoder_causal_attention": True}, {"pooling_position": 2}])
def test_later_sound_changes_no_complete_block(changes):
    m = model(**changes)
    whole, other = mel(96), mel(96, seed=1)
    other[..., :64] = whole[..., :64]  # two blocks of 16 frames at 50 Hz
    ones = torch.ones(1, 96, dtype=torch.bool)
    a, b = m.encoder.vectors(whole, ones), m.encoder.vectors(other, ones)
    assert torch.allclose(a[:, :8], b[:, :8], atol=1e-6) and not torch.allclose(a[:, 8:], b[:, 8:], atol=1e-3)


@torch.inference_mode()
def test_a_block_sees_its_own_end():
    m = model()
    whole, other = mel(32), mel(32)
    other[..., 30] += 1
    ones = torch.ones(1, 32, dtype=torch.bool)
    assert not torch.allclose(m.encoder.vectors(whole, ones)[:, 0], m.encoder.vectors(other, ones)[:, 0], atol=1e-4)


@torch.inference_mode()
def test_padding_is_not_seen():
    m = model()
    short = mel(40)
    long = torch.cat([short, 9 + mel(24, seed=1)], dim=-1)
    alone = m.encoder.vectors(short, torch.ones(1, 40, dtype=torch.bool))
    among = m.encoder.vectors(long, torch.arange(64)[None] < 40)
    assert torch.allclose(alone, among[:, :5], atol=1e-5)


def test_losses_reach_every_weight_and_fall():
    decoder = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32, "max_target_positions": 8}
    ids = {"vocab_size": 12, "pad_token_id": 0, "decoder_start_token_id": 1}
    m = model(ctc_letters=" ab", quantize_ema_decay=0.9, **decoder, **ids).train()
    batch = {
        "waves": 0.1 * torch.randn(2, 1280 * 4), "samples": torch.tensor([1280 * 4, 3000]),
        "letters": torch.tensor([[2, 1, 3], [3, 0, 0]]), "letter_counts": torch.tensor([3, 1]),
        "labels": torch.tensor([[4, 5, 2], [6, 2, -100]]),
    }  # fmt: skip
    optimizer = torch.optim.Adam([p for p in m.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(30):
        found = m.losses(batch)
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
        losses.append(found["loss"].item())
    assert set(found) == {"loss", "codebook", "ctc", "text", "share_used", "perplexity"}
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters() if p.requires_grad)
    assert losses[-1] < 0.5 * losses[0]


def test_padding_behind_a_row_changes_no_loss():
    m = model(ctc_letters=" ab")
    wave = 0.1 * torch.randn(1, 1280 * 3)
    batch = {"samples": torch.tensor([1280 * 3]), "letters": torch.tensor([[1, 2]]), "letter_counts": torch.tensor([2])}
    alone = m.losses({**batch, "waves": wave})["ctc"]
    padded = torch.nn.functional.pad(wave, (0, 1280))
    assert m.losses({**batch, "waves": padded})["ctc"].item() == pytest.approx(alone.item(), abs=0.02)


def test_impossible_configurations_are_refused():
    for changes, named in (
        ({"pooling_position": 3}, "quantize_position"),
        ({"encoder_layers": 1}, "encoder_layers"),
        ({"quantize_causal_block_size": 3}, "quantize_causal_block_size = 3: expected at least"),
    ):
        with pytest.raises(InputError, match=named):
            VqWhisperConfig(**{**SMALL, **changes})


def test_units_of_silence_are_finite():
    m = model()
    vectors = m.encoder.vectors(torch.zeros(1, 20, 16), torch.ones(1, 16, dtype=torch.bool))
    assert np.isfinite(vectors.detach().numpy()).all()
