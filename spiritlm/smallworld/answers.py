"""The small world's benchmarks of answers: what is to be recorded, and the files beside it, each in its public layout.

librispeech/    sentences to write down and to read aloud    read_speech.py
story_qa/       half-told stories as questions               questions.py
stsp/           prompts in a mood                            sentiments.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spiritlm.smallworld import questions, read_speech
from spiritlm.smallworld.recording import Shard, cut_shards
from spiritlm.smallworld.sentiments import plan_sentiments

Facts = Mapping[str, Sequence[Mapping[str, Any]]]
"""Of each shard, by name, the rows of its recordings."""


class Benchmark(NamedTuple):
    shards: list[Shard]
    files: Callable[[Facts], dict[Path, str]]
    """Texts by their path below the folder of all benchmarks."""


def read_aloud(seen: Sequence[str], unseen: Sequence[str], sentences: int, seed: int) -> Benchmark:
    """`sentences` of each split."""
    folder = Path("librispeech")
    chapters = read_speech.plan(seen, unseen, sentences, seed)
    return Benchmark(
        read_speech.shards(chapters, folder),
        lambda facts: {folder / path: text for path, text in read_speech.texts(chapters).items()},
    )


def story_questions(couples: int, seed: int, voices: Iterable[tuple[str, str]], size: int) -> Benchmark:
    """`2 * couples` of each set. `size`: stories of a shard."""
    folder = Path("story_qa")
    plan = questions.plan(couples, seed, voices)
    return Benchmark(
        list(cut_shards("story_qa", folder / questions.AUDIOS, plan.tellings, size)),
        lambda facts: {folder / path: text for path, text in plan.files.items()},
    )


def sentiments(prompts: int, seed: int, seen: Sequence[str], unseen: Sequence[str], size: int) -> Benchmark:
    """About `prompts` of each manifest."""
    folder = Path("stsp")
    plan = plan_sentiments(prompts, seed, seen, unseen)
    shards = {
        place: list(cut_shards(f"stsp-{place.name}", folder / "data" / place, [(told,) for told in tellings], size))
        for place, tellings in plan.tellings.items()
    }

    def files(facts: Facts) -> dict[Path, str]:
        rows = {place: [row for shard in cut for row in facts[shard.name]] for place, cut in shards.items()}
        return {
            folder / path: "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in lines)
            for path, lines in plan.manifests(rows).items()
        }

    return Benchmark([shard for cut in shards.values() for shard in cut], files)
