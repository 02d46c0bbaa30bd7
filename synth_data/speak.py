"""Tell seeded stories aloud: recordings with word times, to train and test on.

Out: `wav/SPLIT/ID.wav` (16 kHz, mono, 16 bit), lhotse manifests of `train`, `dev` and `test` with word alignments and
     moods (`custom.moods`: rows of mood, start, end in seconds), `phones.jsonl` (the synthesizers' phone times),
     `stories.jsonl` (further training stories, written only).
A test item is three recordings, as the spoken StoryCloze layouts have it: `ID_mutual`, `ID_correct`, `ID_incorrect`.
Work is cut into shards, each spoken by a fresh process, so the number of workers changes nothing and a run that was
killed goes on with the shards that are left.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field

from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.run.files import write_jsonl
from spiritlm.run.program import run_program
from spiritlm.run.stage import Stage, StageRecipe
from spiritlm.smallworld.recording import Shard, cut_shards, forget_shards, read_shard, record_shards
from spiritlm.smallworld.scenarios import SCENARIOS
from spiritlm.smallworld.stories import Split, Story, cloze_items, stories
from spiritlm.smallworld.telling import Telling, cloze_tellings
from spiritlm.smallworld.voices import SAMPLE_RATE, STYLES, VoicesRecipe, voices_here

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class SpeakRecipe(StageRecipe):
    seed: int = 0
    train: int = Field(ge=1)
    """Training stories."""
    dev: int = Field(ge=1)
    test_pairs: int = Field(ge=1)
    """Pairs of StoryCloze items; see `spiritlm/smallworld/stories.py`."""
    written: int = Field(ge=0)
    """Further training stories that are not spoken."""
    mood_changes: float = Field(default=0.0, ge=0, le=1)
    """Share of train and dev recordings whose mood turns into another between two sentences."""
    excerpts: float = Field(default=0.0, ge=0, le=1)
    """Share of train and dev recordings that tell one or two sentences of a story, from anywhere in it: what stands
    alone begins and ends in silence, and a model that has heard whole stories only does not understand it."""
    voices: VoicesRecipe
    shard_size: int = Field(default=32, ge=1)
    """Stories a process speaks."""
    workers: int = Field(default=0, ge=0)
    """Processes at a time; 0 means one a core."""


def speak(recipe: SpeakRecipe, stage: Stage) -> dict[str, Any]:
    train_voices, held_out = voices_here(recipe.voices)
    spoken, written = _training_stories(recipe)
    shards = _shards(recipe, spoken, train_voices, held_out)
    record_shards("speak", stage.folder, [shard for split in SPLITS for shard in shards[split]], recipe.workers)
    counts = _collect(stage.folder, shards)
    write_jsonl(
        stage.folder / "stories.jsonl",
        ({"id": f"written-{number:05d}", "text": story.text} for number, story in enumerate(written)),
    )
    words = {word.strip(".") for story in (*spoken, *written) for word in story.text.split()}
    return {**counts, "written": len(written), "word_types": len(words)}


def _training_stories(recipe: SpeakRecipe) -> tuple[list[Story], list[Story]]:
    told = stories("train", recipe.seed)
    return list(islice(told, recipe.train)), list(islice(told, recipe.written))


def _shards(
    recipe: SpeakRecipe, train: Sequence[Story], voices: tuple[str, ...], held_out: tuple[str, ...]
) -> dict[Split, list[Shard]]:
    rng = random.Random(f"{recipe.seed}-voices")

    def voice() -> str:
        return rng.choice(held_out if rng.random() < recipe.voices.held_out_share else voices)

    def telling(id: str, story: Story, voice: str) -> Telling:
        told = _told(recipe, id, story)
        place = SCENARIOS[story.scenario].place
        return Telling(id, story.sentences[told], voice, _moods(recipe, id, story)[told], place)

    dev = islice(stories("dev", recipe.seed), recipe.dev)
    test = cloze_items(recipe.test_pairs, recipe.seed)
    items: dict[Split, list[Sequence[Telling]]] = {
        "train": [[telling(f"train-{number:05d}", story, rng.choice(voices))] for number, story in enumerate(train)],
        "dev": [[telling(f"dev-{number:05d}", story, voice())] for number, story in enumerate(dev)],
        "test": [cloze_tellings(f"test-{n:05d}", item, voice(), item.story.mood) for n, item in enumerate(test)],
    }
    return {
        split: list(cut_shards(split, Path("wav") / split, items[split], recipe.shard_size, written=split == "test"))
        for split in SPLITS
    }


def _told(recipe: SpeakRecipe, id: str, story: Story) -> slice:
    """Which of its sentences; drawn apart from all else, as `_moods` are."""
    rng, count = random.Random(f"{recipe.seed}-excerpts-{id}"), len(story.sentences)
    if rng.random() >= recipe.excerpts:
        return slice(None)
    start = rng.randrange(count)
    return slice(start, start + rng.choice((1, 1, 2)))


def _moods(recipe: SpeakRecipe, id: str, story: Story) -> tuple[str, ...]:
    """Of each sentence; drawn apart from all else, so a larger share changes the same recordings and further ones."""
    rng, count = random.Random(f"{recipe.seed}-moods-{id}"), len(story.sentences)
    changes = rng.random() < recipe.mood_changes
    second = rng.choice([mood for mood in STYLES if mood != story.mood])
    until = rng.randrange(1, count) if changes else count
    return (story.mood,) * until + (second,) * (count - until)


def _collect(folder: Path, shards: dict[Split, list[Shard]]) -> dict[str, Any]:
    """Manifests and phone times of all shards; the shards' own files are removed."""
    counts: dict[str, Any] = {}
    phones: list[dict[str, Any]] = []
    for split, parts in shards.items():
        tellings = [telling for shard in parts for telling in shard.tellings]
        rows = [row for shard in parts for row in read_shard(folder, shard)]
        write_manifest(folder, split, [_document(*both) for both in zip(tellings, rows, strict=True)])
        phones += [{"id": told.id, "phones": row["phones"]} for told, row in zip(tellings, rows, strict=True)]
        sentences = [sentence for row in rows for sentence in row["sentences"]]
        counts[split] = {
            "recordings": len(rows),
            "hours": round(sum(row["duration"] for row in rows) / 3600, 3),
            "sentences": len(sentences),
            "words": sum(len(text.split()) for words in sentences for text, _, _ in words),
            "sentences_without_word_times": sum(len(words) == 1 for words in sentences),
            "speakers": dict(sorted(Counter(telling.voice for telling in tellings).items())),
        }
    write_jsonl(folder / "phones.jsonl", phones)
    forget_shards(folder, [shard for parts in shards.values() for shard in parts])
    return counts


def _document(telling: Telling, row: dict[str, Any]) -> SpokenDocument:
    return SpokenDocument(
        id=telling.id,
        audio=Path(row["wav"]),
        duration=row["duration"],
        sample_rate=SAMPLE_RATE,
        speaker=telling.voice,
        sentences=tuple(Sentence.of_words([Word(*word) for word in words]) for words in row["sentences"]),
        custom={"mood": telling.moods[0], "moods": row["moods"], "scenario": telling.scenario},
    )


if __name__ == "__main__":
    run_program("speak", SpeakRecipe, speak, __doc__)
