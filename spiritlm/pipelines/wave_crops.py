"""Crops of waveforms that vocoders are trained on: a batch is a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spiritlm.corpus.sounds import Sounds, Stretch
from spiritlm.errors import InputError
from spiritlm.run.fit import Batch
from spiritlm.run.rejects import Rejects
from spiritlm.synthesis.crops import runs_of
from spiritlm.tokens.emit import Document
from spiritlm.tokens.streams import prosody_at

PIECE_SECONDS = 4.0
"""Of a recording, that a crop is cut from."""


@dataclass(frozen=True)
class Crops:
    """What a batch is to be."""

    sample_rate: int
    samples: int
    """Of a crop."""
    size: int
    """Crops of a batch, over all processes."""
    seed: int
    rank: int
    ranks: int

    @property
    def seconds(self) -> float:
        return self.samples / self.sample_rate

    def drawn(self, step: int, chances: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of this process: numbers of pieces, drawn by `chances`, and in each a place in [0, 1)."""
        rng = np.random.default_rng((self.seed, step))
        numbers, places = rng.choice(len(chances), self.size, p=chances), rng.random(self.size)
        return numbers[self.rank :: self.ranks], places[self.rank :: self.ranks]

    def cut(self, wave: np.ndarray, first: int) -> np.ndarray:
        """float32 `[samples]` from sample `first` on; zeros behind the end."""
        crop = wave[first : first + self.samples]
        return np.pad(crop, (0, self.samples - len(crop)))


class WaveCrops:
    """Of recordings, anywhere."""

    def __init__(self, crops: Crops, recordings: Sequence[tuple[Path, float]], rejects: Rejects) -> None:
        """`recordings`: sound files and how long they are, seconds."""
        self.crops, longest = crops, max(PIECE_SECONDS, crops.seconds)
        pieces = [
            Stretch(audio, float(start), min(duration, float(start) + longest))
            for audio, duration in recordings
            for start in np.arange(0, duration, longest)
        ]
        self.sounds = Sounds(pieces, crops.sample_rate, rejects)
        self.chances = _shares([piece.seconds for piece in pieces])

    def batch(self, step: int) -> Batch:
        """`waves` float32 `[batch, samples]`."""
        numbers, places = self.crops.drawn(step, self.chances)
        waves = [
            self.crops.cut(wave, int(place * max(0, len(wave) - self.crops.samples)))
            for wave, place in zip(self.sounds.read(numbers)[1], places, strict=True)
        ]
        return {"waves": torch.from_numpy(np.stack(waves))}


@dataclass(frozen=True)
class Told:
    """A recording and what a unit vocoder is told of it."""

    name: str
    audio: Path
    start: float
    """Second at which its units begin."""
    document: Document
    speaker: int
    styles: np.ndarray
    """Number of the style of the utterance at each unit, int64 `[units]`; zeros where there is none."""


class UnitWaveCrops:
    """Of recordings, beginning with a unit, beside all that is told of each unit."""

    def __init__(
        self,
        crops: Crops,
        recordings: Sequence[Told],
        rates: Sequence[float],
        most_runs: int,
        heard: int,
        rejects: Rejects,
    ) -> None:
        """`rates`: Hz, of semantic, pitch and style units; `most_runs`: runs of equal units whose durations are learnt
        of a crop, and `heard`: runs on either side that a duration hears. Recordings shorter than a crop are left out;
        raises `InputError` where all are."""
        self.crops, self.rates, self.most_runs, self.heard = crops, rates, most_runs, heard
        self.units = round(crops.seconds * rates[0])
        longest = max(self.units, int(PIECE_SECONDS * rates[0]))
        self.pieces: list[tuple[Told, int, int]] = []
        """A recording, and the first and last unit of a piece of it."""
        for told in recordings:
            known = len(told.document.semantic)
            for start in range(0, known if known >= self.units else 0, longest):
                stop = min(known, start + longest)
                self.pieces.append((told, min(start, stop - self.units), stop))
        if not self.pieces:
            raise InputError(f"no recording is as long as a crop of {crops.seconds:g} s")
        stretches = [Stretch(t.audio, t.start + a / rates[0], t.start + b / rates[0]) for t, a, b in self.pieces]
        self.sounds = Sounds(stretches, crops.sample_rate, rejects)
        self.chances = _shares([stretch.seconds for stretch in stretches])

    def batch(self, step: int) -> Batch:
        """`waves` float32 `[batch, samples]`; of each of their units `units`, `pitch` and `style_units` int64
        `[batch, units]`, the latter two where the recordings have them; `speakers` and `styles` int64 `[batch]`; and
        `runs`, `durations` and `whole` `[batch, most_runs]`, as of `crops.UnitCrops`, of a longer stretch."""
        numbers, places = self.crops.drawn(step, self.chances)
        rows: list[dict[str, np.ndarray]] = []
        read, waves = self.sounds.read(numbers)
        for number, wave, place in zip(read, waves, places, strict=True):
            told, first, last = self.pieces[number]
            begin = first + int(place * (last - first - self.units + 1))
            hop = self.crops.samples // self.units
            rows.append({"waves": self.crops.cut(wave, (begin - first) * hop), **self._told(told, begin)})
        return {name: torch.from_numpy(np.stack([row[name] for row in rows])) for name in rows[0]}

    def _told(self, told: Told, begin: int) -> dict[str, np.ndarray]:
        document, places = told.document, np.arange(begin, begin + self.units)
        row = {"units": document.semantic[places].astype(np.int64)}
        if self.rates[1] and self.rates[2]:
            prosody = prosody_at(document.pitch, document.style, self.rates, places)
            row |= {"pitch": prosody.pitch, "style_units": prosody.style}
        row["speakers"], row["styles"] = np.array(told.speaker), np.array(told.styles[begin + self.units // 2])
        for name, values in zip(("runs", "durations", "whole"), self._runs(document.semantic, begin), strict=True):
            row[name] = np.pad(values, (0, self.most_runs - len(values)))
        return row

    def _runs(self, units: np.ndarray, begin: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As of `runs_of`, at most `most_runs`; whole are those that have all around them that is heard of them."""
        values, durations, whole = (found[: self.most_runs] for found in runs_of(units, begin))
        if begin:
            whole[: self.heard] = False
        if begin + durations.sum() < len(units):
            whole[-self.heard :] = False
        return values, durations, whole


def _shares(seconds: Sequence[float]) -> np.ndarray:
    found = np.asarray(seconds, dtype=np.float64)
    return found / found.sum()
