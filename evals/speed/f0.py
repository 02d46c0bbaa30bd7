"""F0 trackers side by side on voices of the small world: speed, gross errors, voicing.

    python evals/speed/f0.py [--voices espeak:en-us espeak:en-us+f2 flite:rms]

Each voice tells a story in each mood; WORLD takes the recordings apart (Harvest, CheapTrick, D4C) and makes them anew,
so that F0 and voicing are known: those it made them with. Trackers are `world` and, where torchfcpe is installed,
`fcpe`, as the tokenizers use them, and for comparison librosa's pYIN over the same range. Seconds of sound a second of
one core, medians of 5 in turns. Exit status 1 where `world` is not 10 times as fast as pYIN.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import librosa
import numpy as np

from spiritlm.audio.f0 import CEILING, FLOOR, HOP, SAMPLE_RATE, pyworld_tools, track_f0
from spiritlm.errors import InputError
from spiritlm.scoring.f0 import f0_errors
from spiritlm.smallworld.telling import Telling, record
from spiritlm.smallworld.voices import STYLES

REPEATS, AIM = 5, 10.0
VOICES = ["espeak:en-us", "espeak:en-us+f2", "espeak:en-us+m3", "flite:rms", "flite:slt"]
STORY = ("Tom went to the lake with his mother.", "He wanted to catch a big fish.", "The rain came soon.")

Track = Callable[[np.ndarray], np.ndarray]


def known(voice: str, mood: str) -> tuple[np.ndarray, np.ndarray]:
    """A recording made anew, float32 `[samples]`, and the F0 it has, `[frames]` of Hz at 200 Hz."""
    tools, period = pyworld_tools(), 1000 * HOP / SAMPLE_RATE
    told = record(Telling("one", STORY, voice, (mood,) * len(STORY), "lake")).wave.astype(np.float64)
    f0, times = tools.harvest(told, SAMPLE_RATE, FLOOR, CEILING, period)
    envelope = tools.cheaptrick(told, f0, times, SAMPLE_RATE)
    noise = tools.d4c(told, f0, times, SAMPLE_RATE)
    f0[noise[:, 0] > 0.999] = 0  # made of noise alone
    wave = tools.synthesize(f0, envelope, noise, SAMPLE_RATE, period)
    frames = -(-len(wave) // HOP)
    return wave.astype(np.float32), np.pad(f0, (0, max(0, frames - len(f0))))[:frames]


def pyin(wave: np.ndarray) -> np.ndarray:
    f0, _, _ = librosa.pyin(wave, fmin=FLOOR, fmax=CEILING, sr=SAMPLE_RATE, frame_length=1024, hop_length=HOP)
    return np.nan_to_num(f0)[: -(-len(wave) // HOP)]


def trackers() -> dict[str, Track]:
    found: dict[str, Track] = {"world": lambda wave: track_f0(wave, "world")}
    try:
        track_f0(np.ones(SAMPLE_RATE, np.float32), "fcpe")
        found["fcpe"] = lambda wave: track_f0(wave, "fcpe")
    except InputError as error:
        print(f"without fcpe: {error}")
    return {**found, "pYIN (librosa)": pyin}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voices", nargs="+", default=VOICES)
    made = [known(voice, mood) for voice in parser.parse_args().voices for mood in STYLES]
    seconds = sum(len(wave) for wave, _ in made) / SAMPLE_RATE
    rows = trackers()
    found = {name: [track(wave) for wave, _ in made] for name, track in rows.items()}
    some = [made[0][0], made[-1][0]]
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(REPEATS):
        for name, track in rows.items():
            started = time.perf_counter()
            for wave in some:
                track(wave)
            times[name].append(time.perf_counter() - started)
    heard = sum(map(len, some)) / SAMPLE_RATE
    speeds = {name: heard / statistics.median(times[name]) for name in rows}
    print(f"{len(made)} recordings, {seconds:.0f} s; % of frames")
    print("| tracker | x real time | within 10 % | gross errors | cents | voicing errors |\n|---|---|---|---|---|---|")
    for name in rows:
        errors = f0_errors([(f0, judged) for (_, f0), judged in zip(made, found[name], strict=True)])
        cells = [f"{100 * share.value:.1f}" for share in (errors.near, errors.gross)]
        voicing = f"{100 * errors.voicing.value:.1f}"
        print(f"| {name} | {speeds[name]:.0f} | {cells[0]} | {cells[1]} | {errors.cents:.1f} | {voicing} |")
    ratio = speeds["world"] / speeds["pYIN (librosa)"]
    print(f"world / pYIN: {ratio:.1f} (aim at least {AIM:g}){'' if ratio >= AIM else ' MISSED'}")
    sys.exit(int(ratio < AIM))


if __name__ == "__main__":
    main()
