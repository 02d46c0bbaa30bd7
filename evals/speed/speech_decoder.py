"""How soon and how fast the flow decoder speaks while units arrive, and what a block costs, early and late.

    python evals/speed/speech_decoder.py [--voice FOLDER] [--seconds 60] [--plot costs.png]

Without a voice: random weights of the small recipes' shapes. 60 seconds of units arrive in blocks of 10. Aims: the
first sound 150 ms after the first 10 units (p50 of 20 utterances; p95 beside it), a real-time factor of 0.3, and the
last quarter of the blocks at most 1.25 times the cost of the second. Beside it, in the same run, GLM-4-Voice's
published way, which hears all earlier units again for every block (a flow of about as many parameters, for a third of
the time because its cost grows). Pieces of 5, 10 and 25 units are compared with the whole utterance, done in one go,
and the steps between samples at the seams of the pieces with those around them. Beside it stands the expressive unit
HiFi-GAN of the small recipe (random weights), which waits for as many units as its convolutions hear. Medians of 5;
exit status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import torch

from spiritlm.audio.vocoder_mel import VocoderMel
from spiritlm.config import validate_recipe
from spiritlm.errors import InputError
from spiritlm.run.program import guarded
from spiritlm.synthesis.conformer import EncoderShape
from spiritlm.synthesis.decoder import FlowDecoder, FlowDecoderConfig, UnitsToMel
from spiritlm.synthesis.estimator import EstimatorShape
from spiritlm.synthesis.flow import Flow, FlowConfig, Known
from spiritlm.synthesis.harmonics import SourceStream
from spiritlm.synthesis.hift import Hift, HiftShape
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.noise import noise_at
from spiritlm.synthesis.published_stream import PublishedStream
from spiritlm.synthesis.timing import TimedSpeech, timed_stream
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape
from spiritlm.synthesis.vocoder import VocoderConfig
from spiritlm.tokens.streams import Prosody

RECIPES = Path(__file__).parents[2] / "training" / "recipes"
UNIT_RATE, BLOCK, REPEATS, SHORT = 12.5, 10, 5, 20
AROUND = 80
"""Samples on either side of a seam that it is compared with."""
FIRST, FACTOR, GROWTH, DIFFERENCE, SEAM = 0.150, 0.3, 1.25, 1e-4, 1.0
UNIT_DIFFERENCE = 1e-5
"""Of the unit HiFi-GAN."""


def small_recipe(name: str) -> dict:
    return tomllib.loads((RECIPES / f"{name}-small.toml").read_text())


def small_decoder() -> FlowDecoder:
    torch.manual_seed(0)
    vocoder, recipe = small_recipe("vocoder"), small_recipe("flow")
    shape = validate_recipe(HiftShape, vocoder["model"], "model")
    spoken = VocoderConfig(mel=VocoderMel(**vocoder["mel"]), shape=shape)
    table = {"vocabulary_size": 512, "unit_rate": UNIT_RATE, "frame_rate": spoken.mel.frame_rate, "regulator_layers": 0}
    config = validate_recipe(FlowConfig, table | recipe["model"], "model")
    told = {name: recipe[name] for name in ("steps", "temperature") if name in recipe}
    both = FlowDecoderConfig(flow=config, vocoder=spoken, speakers=("one",), durations=False, **told)
    return FlowDecoder(UnitsToMel(config, 1, durations=False), Hift(shape), both)


def small_unit_decoder() -> UnitDecoder:
    """Which lasts as long as its units, so that time can be counted in them."""
    torch.manual_seed(0)
    recipe = small_recipe("hifigan-expressive")
    told = {"units": 512, "pitch_units": 64, "style_units": 16, "speakers": 2}
    shape = validate_recipe(UnitHifiganShape, recipe["hifigan"] | told | {"duration_width": 0}, "hifigan")
    return UnitDecoder(UnitHifigan(shape), UnitDecoderConfig(shape=shape, speakers=("one", "other")))


def unit_decoder_figures(units: np.ndarray) -> list[tuple[str, float, float]]:
    """What is measured of the unit HiFi-GAN, its value and its aim."""
    decoder, rng = small_unit_decoder(), np.random.default_rng(1)
    prosody = Prosody(rng.integers(64, size=len(units)), rng.integers(16, size=len(units)))
    whole = decoder.decode(units, prosody=prosody)
    runs = [timed_stream(decoder, units, BLOCK, prosody=prosody) for _ in range(REPEATS + 1)][1:]
    firsts = [timed_stream(decoder, units[: 4 * BLOCK], BLOCK, prosody=prosody).first for _ in range(SHORT)]
    waited = BLOCK * next(n for n, samples in enumerate(runs[0].samples, start=1) if samples)
    waves = [runs[0].wave, *(timed_stream(decoder, units, block, prosody=prosody).wave for block in (5, 25))]
    print(f"unit HiFi-GAN, first sound, p95 of {SHORT}: {1000 * float(np.percentile(firsts, 95)):.0f} ms")
    difference = max(float(np.abs(wave - whole).max()) for wave in waves)
    factor = statistics.median(run.factor(decoder.sample_rate) for run in runs)
    return [
        (f"unit HiFi-GAN, first sound after {waited} units, p50, s", statistics.median(firsts), FIRST),
        ("unit HiFi-GAN, real-time factor", factor, FACTOR),
        ("unit HiFi-GAN, pieces - whole, largest sample", difference, UNIT_DIFFERENCE),
        ("unit HiFi-GAN, steps at seams / around them", seams(runs[0]), SEAM),
    ]


@torch.inference_mode()
def in_one_go(decoder: FlowDecoder, units: np.ndarray) -> np.ndarray:
    """What `decoder` says, by masks instead of memories, the vocoder in one piece."""
    model, flow = decoder.model, decoder.model.flow
    ids = torch.from_numpy(units)[None].to(decoder.device)
    if model.durations is not None:
        ids = ids.repeat_interleave(model.durations.durations(flow.input_embedding(ids))[0], dim=1)
    condition = flow.condition(ids).transpose(1, 2)
    known = Known(condition, flow.voice(model.voices.weight[:1]), torch.zeros_like(condition))
    noise = decoder.config.temperature * noise_at(0, condition.shape[2], flow.config.mels).to(decoder.device)
    mel = model.restore(flow.solve(noise, known, decoder.config.steps))
    f0_predictor = copy.deepcopy(decoder.vocoder.f0_predictor).double()
    source = SourceStream(decoder.vocoder.m_source).push(f0_predictor(mel.double()))
    return decoder.vocoder(mel, source)[0].cpu().numpy()


def published_way(like: FlowDecoder) -> PublishedStream:
    """GLM-4-Voice's layout at about the size of `like`."""
    config, vocoder = like.config.flow, like.config.vocoder.shape
    own, width = config.estimator, config.encoder.width
    encoder = EncoderShape(
        width=width, heads=config.encoder.heads, feed_forward=config.encoder.feed_forward,
        layers=config.encoder.layers + config.encoder.up_layers, block=BLOCK, dropout=0.0,
    )  # fmt: skip
    estimator = EstimatorShape(
        channels=own.channels * 2, blocks=own.blocks, mid_blocks=own.mid_blocks, heads=own.heads,
        head_size=own.head_size, published_mask=True,
    )  # fmt: skip
    flow = FlowConfig(
        layout="glm", vocabulary_size=config.vocabulary_size, unit_rate=UNIT_RATE, frame_rate=config.frame_rate,
        input_size=config.input_size, encoder=encoder, estimator=estimator,
    )  # fmt: skip
    return PublishedStream(Flow(flow).eval().to(like.device), Hift(vocoder).eval().to(like.device))


def growth(costs: list[float]) -> float:
    """Cost of the last quarter over that of the second: the first one still fills the left context."""
    quarter = len(costs) // 4
    return statistics.mean(costs[-quarter:]) / statistics.mean(costs[quarter : 2 * quarter])


def published_costs(stream: PublishedStream, units: np.ndarray) -> list[float]:
    costs = []
    for start in range(0, len(units), BLOCK):
        started = time.perf_counter()
        piece = torch.from_numpy(units[None, start : start + BLOCK]).to(stream.units.device)
        stream.push(piece, last=start + BLOCK >= len(units))
        costs.append(time.perf_counter() - started)
    return costs


def seams(spoken: TimedSpeech) -> float:
    """Square of the step between samples at a seam of two pieces, over the mean around it: median of all seams."""
    steps = np.square(np.diff(spoken.wave.astype(np.float64)))
    places = np.cumsum([n for n in spoken.samples if n])[:-1] - 1
    around = [steps[max(0, place - AROUND) : place + AROUND].mean() for place in places]
    return float(np.median(steps[places] / np.maximum(around, 1e-12)))


def plot(costs: dict[str, list[float]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, found in costs.items():
        axis.plot(np.arange(len(found)) * BLOCK / UNIT_RATE, [1000 * cost for cost in found], label=name)
    axis.set(xlabel="seconds of speech before the block", ylabel="ms for a block of 0.8 s", ylim=(0, None))
    axis.legend(frameon=False)
    figure.savefig(path, dpi=120)


def measure() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voice", type=Path, help="a trained decoder")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--plot", type=Path, metavar="PNG", help="cost of every block")
    options = parser.parse_args()
    decoder = small_decoder() if options.voice is None else load_speech_decoder(options.voice)
    if not isinstance(decoder, FlowDecoder):
        raise InputError(f"--voice {options.voice}: expected a decoder by flow matching, which streams")
    print(f"on {decoder.device}")
    rng = np.random.default_rng(0)
    units = rng.integers(decoder.vocabulary_size, size=int(options.seconds * UNIT_RATE))
    runs = [timed_stream(decoder, units, BLOCK) for _ in range(REPEATS + 1)][1:]
    costs = [statistics.median(column) for column in zip(*(run.costs for run in runs), strict=True)]
    firsts = [timed_stream(decoder, units[: 2 * BLOCK], BLOCK).first for _ in range(SHORT)]
    alternative = published_costs(published_way(decoder), units[: len(units) // 3])
    whole = in_one_go(decoder, units)
    waves = [runs[0].wave, *(timed_stream(decoder, units, block).wave for block in (5, 25))]
    difference = max(float(np.abs(wave - whole).max()) for wave in waves)
    if options.plot is not None:
        plot({"ours": costs, "published way": alternative}, options.plot)
    print(f"first sound, p95 of {SHORT}: {1000 * float(np.percentile(firsts, 95)):.0f} ms")
    print(f"published way, last quarter / second quarter of {options.seconds / 3:g} s: {growth(alternative):.2f}")
    found = [
        ("first sound after 10 units, p50, s", statistics.median(firsts), FIRST),
        ("real-time factor", statistics.median(run.factor(decoder.sample_rate) for run in runs), FACTOR),
        ("last quarter / second quarter", growth(costs), GROWTH),
        ("pieces - whole, largest sample", difference, DIFFERENCE),
        ("steps at seams / around them", seams(runs[0]), SEAM),
        *unit_decoder_figures(units % 512),
    ]
    for what, value, aim in found:
        print(f"{what}: {value:.3g} (aim at most {aim:g}){'' if value <= aim else ' MISSED'}")
    sys.exit(int(any(value > aim for _, value, aim in found)))


if __name__ == "__main__":
    sys.exit(guarded(measure, debug=False))
