"""SALMon: does speech stay as it was, and does it sound as what it says?

    FOLDER/PART/sample_<i>_<j>.wav      j = 0: as it should be; the next j: changed (voice, mood, room, noise)

Published figures of its baselines take the mean log-likelihood per token. Of a sample, the first two recordings are
compared, as its own program does; others are counted as skipped.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

from spiritlm.errors import InputError
from spiritlm.scoring.protocol import Sound
from spiritlm.suites.pairs import Task, whole_pair

VERSION = 1
PARTS = (
    "bg_alignment",
    "bg_all_consistency",
    "bg_domain_consistency",
    "gender_consistency",
    "rir_consistency",
    "sentiment_alignment",
    "sentiment_consistency",
    "speaker_consistency",
)
_SAMPLE = re.compile(r"sample_(\d+)_(\d+)")


def read(name: str, folder: Path) -> Task:
    """One part. Raises `InputError` for a recording that is called otherwise, and for a sample without its first
    recording or without a second."""
    samples: dict[int, dict[int, Path]] = defaultdict(dict)
    files = sorted(folder.glob("*.wav"))
    for path in files:
        if not (found := _SAMPLE.fullmatch(path.stem)):
            raise InputError(f"{path}: expected a name like sample_0_0.wav")
        sample, which = map(int, found.groups())
        if which in samples[sample]:
            raise InputError(f"{path}: sample {sample} has two recordings number {which}")
        samples[sample][which] = path
    if not samples:
        raise InputError(f"{folder}: expected recordings sample_<i>_<j>.wav, found none")
    pairs = []
    for sample, paths in sorted(samples.items()):
        if 0 not in paths or len(paths) < 2:
            raise InputError(
                f"{folder}: sample {sample} has recordings {', '.join(map(str, sorted(paths)))}, expected 0 and another"
            )
        right, wrong = (Sound(str(paths[which]), paths[which]) for which in sorted(paths)[:2])
        pairs.append(whole_pair(str(sample), right, wrong))
    return Task(name, VERSION, "test", pairs, len(files) - 2 * len(pairs), ("mean", "full"))
