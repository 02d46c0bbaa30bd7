"""How near a speech decoder comes to recordings whose units it speaks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import soxr
import torch

from spiritlm.run.progress import track
from spiritlm.synthesis.protocol import MelDecoder, as_given
from spiritlm.units.protocol import SpeechTokenizer


class Recorded(NamedTuple):
    """A recording to be spoken again."""

    units: np.ndarray
    """int `[n]`, not deduplicated."""
    speaker: str
    mel: torch.Tensor
    """As the decoder's."""
    seconds: float


def respoken(
    decoder: MelDecoder, tokenizer: SpeechTokenizer, recordings: Sequence[Recorded], mean_frame: torch.Tensor
) -> dict[str, float]:
    """Means over `recordings`.

    `dev_mel_distance`: mean absolute difference of log-mel, at the recording's own durations;
    `dev_mean_frame_distance`: that of a decoder which knows nothing but `mean_frame` `[mels]`; `dev_units_kept`: share
    of units that the tokenizer hears again, likewise; `dev_length_ratio`: predicted over true length;
    `real_time_factor`: seconds to decode a second of sound.
    """
    rows = [_respoken(decoder, tokenizer, one, mean_frame) for one in track(recordings, "measure", len(recordings))]
    means = {name: round(float(np.mean([row[name] for row in rows])), 4) for name in (rows[0] if rows else {})}
    return {"dev_recordings": len(rows), **means}


def _respoken(
    decoder: MelDecoder, tokenizer: SpeechTokenizer, recorded: Recorded, mean_frame: torch.Tensor
) -> dict[str, float]:
    values, durations, _ = as_given(decoder, recorded.units)
    mel = decoder.mel(values, recorded.speaker, durations)
    spoken = decoder.speak(mel).cpu().numpy()
    if decoder.sample_rate != tokenizer.sample_rate:
        spoken = soxr.resample(spoken, decoder.sample_rate, tokenizer.sample_rate)
    heard = tokenizer.encode(spoken, tokenizer.sample_rate).semantic.values
    started = time.monotonic()
    wave = decoder.decode(values, recorded.speaker)
    spent = time.monotonic() - started
    most = min(len(heard), len(recorded.units))
    return {
        "dev_mel_distance": float((mel.cpu() - recorded.mel).abs().mean()),
        "dev_mean_frame_distance": float((mean_frame - recorded.mel).abs().mean()),
        "dev_units_kept": float(np.mean(heard[:most] == recorded.units[:most])),
        "dev_length_ratio": len(wave) / decoder.sample_rate / recorded.seconds,
        "real_time_factor": spent * decoder.sample_rate / len(wave),
    }
