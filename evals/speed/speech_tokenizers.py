"""How fast the speech tokenizers encode, beside transformers called once a recording, and what a stream costs.

    python evals/speed/speech_tokenizers.py [--files 200] [--minutes 60]

Random weights; on a CPU the shapes of the small recipes, on a GPU those of Whisper-large (16 layers before the
codebook) and HuBERT-base. 200 recordings of 1 to 15 seconds (on a GPU to 30), float32, median of 5 in turns.
transformers' way for VQ-Whisper is its feature extractor and its Whisper encoder of as many layers, for HuBERT its
`HubertModel`; both leave the quantizer out. A stream of ten minutes arrives in pieces of 100 ms: the cost of its last
quarter is set against that of its first. Memory is that of encoding one file of an hour, above that of one of five
minutes. Exit status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from transformers import HubertModel, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from spiritlm.config import validate_recipe
from spiritlm.units.hubert import HubertTokenizer
from spiritlm.units.hubert_encoder import HubertEncoder, HubertShape, transformers_config
from spiritlm.units.protocol import SpeechTokenizer
from spiritlm.units.quantizers import KmeansQuantizer
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

RATE, REPEATS, PIECE = 16_000, 5, 1600
RECIPES = Path(__file__).parents[2] / "tokenizers" / "recipes"
AIMS = {"VQ-Whisper": 2.0, "HuBERT": 2.0}
REAL_TIME, FLAT, GROWTH = 0.2, 1.5, 1.25
"""Most real-time factor of a stream, most of its last blocks' cost against its first, most memory of an hour against
five minutes."""


def sounds(files: int, longest: float) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [0.1 * rng.standard_normal(int(RATE * rng.uniform(1, longest)), np.float32) for _ in range(files)]


def vq_whisper(gpu: bool) -> VqWhisperTokenizer:
    torch.manual_seed(0)
    table = {"encoder_layers": 16, "quantize_encoder_only": True} if gpu else small_recipe("vq-whisper")["model"]
    model = VqWhisper(validate_recipe(VqWhisperConfig, table, "model"))
    return VqWhisperTokenizer(model.to("cuda" if gpu else "cpu"))


def hubert(gpu: bool) -> HubertTokenizer:
    torch.manual_seed(0)
    shape = validate_recipe(HubertShape, {} if gpu else small_recipe("hubert2")["model"], "model")
    return HubertTokenizer(HubertEncoder(shape), KmeansQuantizer.of(torch.randn(500, shape.width)))


def small_recipe(name: str) -> dict:
    return tomllib.loads((RECIPES / f"{name}-small.toml").read_text())


def transformers_whisper(ours: VqWhisperTokenizer) -> Callable[[np.ndarray], None]:
    """Its encoder always hears 30 seconds."""
    config = ours.config
    shape = WhisperConfig(
        d_model=config.d_model,
        num_mel_bins=config.num_mel_bins,
        encoder_layers=config.quantize_position,
        encoder_attention_heads=config.encoder_attention_heads,
        encoder_ffn_dim=config.encoder_ffn_dim,
    )
    encoder = WhisperEncoder(shape).to(ours.device).eval()
    extract = WhisperFeatureExtractor(feature_size=config.num_mel_bins)

    def call(wave: np.ndarray) -> None:
        features = extract(wave, sampling_rate=RATE, return_tensors="pt").input_features
        encoder(features.to(ours.device)).last_hidden_state.cpu()

    return call


def transformers_hubert(ours: HubertTokenizer) -> Callable[[np.ndarray], None]:
    model = HubertModel(transformers_config(ours.encoder.shape)).to(ours.features.device).eval()

    def call(wave: np.ndarray) -> None:
        model(torch.from_numpy(wave)[None].to(ours.features.device)).last_hidden_state.cpu()

    return call


@torch.inference_mode()
def throughput(
    name: str, ours: SpeechTokenizer, theirs: Callable[[np.ndarray], None], waves: list[np.ndarray]
) -> float:
    """Our hours of audio a second over theirs."""
    seconds: dict[str, list[float]] = {"ours": [], "transformers": []}
    hours = sum(map(len, waves)) / RATE / 3600

    def one_by_one() -> None:
        for wave in waves:
            theirs(wave)

    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: ours.encode_batch(waves, RATE),
        "transformers": one_by_one,
    }
    for round_number in range(REPEATS + 1):
        for way, run in ways.items():
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if round_number:
                seconds[way].append(time.perf_counter() - started)
    medians = {way: statistics.median(found) for way, found in seconds.items()}
    for way, found in medians.items():
        print(f"  {name}, {way}: {hours / found:.4f} hours of audio a second", flush=True)
    return medians["transformers"] / medians["ours"]


def stream_cost(ours: VqWhisperTokenizer, minutes: float) -> tuple[float, float]:
    """Real-time factor of a stream, and what its last quarter costs over its first."""
    wave = sounds(1, 60 * minutes + 0.1)[0]
    wave = np.resize(wave, int(RATE * 60 * minutes))
    stream, costs = ours.stream(), []
    for start in range(0, len(wave), PIECE):
        started = time.perf_counter()
        stream.push(wave[start : start + PIECE])
        costs.append(time.perf_counter() - started)
    stream.finish()
    quarter = len(costs) // 4
    return sum(costs) / (60 * minutes), sum(costs[-quarter:]) / sum(costs[:quarter])


def memory_of(minutes: float) -> float:
    """Most bytes of a process that encodes one file of so many minutes with the small VQ-Whisper."""
    code = f"import runpy; runpy.run_path({__file__!r})['encode_long']({minutes})"
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def encode_long(minutes: float) -> None:
    """Prints the most bytes that were needed above the waves themselves."""
    wave = np.resize(sounds(1, 30)[0], int(RATE * 60 * minutes))
    vq_whisper(False).encode(wave, RATE)
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - wave.nbytes)


def judge(found: Sequence[tuple[str, float, float, bool]]) -> int:
    missed = False
    for what, value, aim, at_least in found:
        right = value >= aim if at_least else value <= aim
        missed |= not right
        print(f"{what}: {value:.3f} (aim {'at least' if at_least else 'at most'} {aim:g}){'' if right else ' MISSED'}")
    return int(missed)


def main() -> None:
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200, help="recordings (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long file (default: %(default)s)")
    options = parser.parse_args()
    waves = sounds(options.files, 30.0 if gpu else 15.0)
    whisper, units = vq_whisper(gpu), hubert(gpu)
    ratios = {
        "VQ-Whisper": throughput("VQ-Whisper", whisper, transformers_whisper(whisper), waves),
        "HuBERT": throughput("HuBERT", units, transformers_hubert(units), waves),
    }
    real_time, growth = stream_cost(whisper, 10.0)
    memory = memory_of(options.minutes) / memory_of(5.0)
    found = [(f"{name}, ours / transformers", ratio, AIMS[name], True) for name, ratio in ratios.items()]
    found += [
        ("stream, real-time factor", real_time, REAL_TIME, False),
        ("stream of 10 minutes, cost of its last quarter / its first", growth, FLAT, False),
        (f"memory, {options.minutes:g} minutes / 5 minutes", memory, GROWTH, False),
    ]
    sys.exit(judge(found))


if __name__ == "__main__":
    main()
