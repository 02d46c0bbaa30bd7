"""Tell seeded stories aloud: recordings with word times, to train and test on.

Out: `wav/SPLIT/ID.wav` (16 kHz, mono, 16 bit), lhotse manifests of `train`, `dev` and `test` with word alignments and
     moods (`custom.moods`: rows of mood, start, end in seconds), `phones.jsonl` (the synthesizers' phone times),
     `stories.jsonl` (further training stories, written only).
A test item is three recordings, as the spoken StoryCloze layouts have it: `ID_mutual`, `ID_correct`, `ID_incorrect`.
Work is cut into shards, each spoken by a fresh process, so the number of workers changes nothing and a run that was
killed goes on with the shards that are left.
"""

from __future__ import annotations

import functools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from spiritlm.audio.files import write_wav
from spiritlm.config import Recipe
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import read_json, remove_partial, write_json, write_jsonl, write_text
from spiritlm.run.program import run_program
from spiritlm.run.progress import progress
from spiritlm.run.stage import Stage, StageRecipe
from spiritlm.run.workers import in_fresh_processes, map_in_workers
from spiritlm.smallworld import flite
from spiritlm.smallworld.scenarios import SCENARIOS
from spiritlm.smallworld.stories import Split, Story, cloze_items, stories
from spiritlm.smallworld.telling import Telling, record
from spiritlm.smallworld.voices import SAMPLE_RATE, STYLES, check_voices

SPLITS: tuple[Split, ...] = ("train", "dev", "test")


class VoicesRecipe(Recipe):
    """Voices by name (`flite:slt`, `espeak:en-us+f3`); a name given twice is drawn twice as often."""

    train: tuple[str, ...] = Field(min_length=1)
    held_out: tuple[str, ...] = Field(min_length=2)
    """Never heard in training."""
    train_without_flite: tuple[str, ...] = Field(min_length=1)
    held_out_without_flite: tuple[str, ...] = Field(min_length=2)
    """The same two on a machine where flite is not installed."""
    held_out_share: float = Field(default=0.25, ge=0, le=1)
    """Share of dev and test stories in held-out voices."""

    @model_validator(mode="after")
    def _check(self) -> VoicesRecipe:
        for suffix in ("", "_without_flite"):
            train, held_out = (getattr(self, f"{field}{suffix}") for field in ("train", "held_out"))
            for name in held_out:
                if name in train:
                    raise InputError(f"voices.held_out{suffix}: {name!r} is in voices.train{suffix} too")
        return self


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
    voices: VoicesRecipe
    shard_size: int = Field(default=32, ge=1)
    """Stories a process speaks."""
    workers: int = Field(default=0, ge=0)
    """Processes at a time; 0 means one a core."""


@dataclass(frozen=True)
class Shard:
    split: Split
    number: int
    tellings: tuple[Telling, ...]

    @property
    def name(self) -> str:
        return f"{self.split}-{self.number:05d}"


def speak(recipe: SpeakRecipe, stage: Stage) -> dict[str, Any]:
    train_voices, held_out = _voices(recipe.voices)
    spoken, written = _training_stories(recipe)
    shards = list(_shards(recipe, spoken, train_voices, held_out))
    _record_shards(recipe, stage.folder, shards)
    counts = _collect(stage.folder, shards)
    write_jsonl(
        stage.folder / "stories.jsonl",
        ({"id": f"written-{number:05d}", "text": story.text} for number, story in enumerate(written)),
    )
    words = {word.strip(".") for story in (*spoken, *written) for word in story.text.split()}
    return {**counts, "written": len(written), "word_types": len(words)}


def _voices(recipe: VoicesRecipe) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Training and held-out voices of this machine; raises `InputError` for one that is absent."""
    train, held_out = recipe.train, recipe.held_out
    if not flite.is_installed() and any(name.startswith("flite:") for name in (*train, *held_out)):
        print("  flite is not installed: speaking with espeak-ng voices only")
        train, held_out = recipe.train_without_flite, recipe.held_out_without_flite
    list(map_in_workers(check_voices, [(*train, *held_out)], workers=1))
    return train, held_out


def _training_stories(recipe: SpeakRecipe) -> tuple[list[Story], list[Story]]:
    told = stories("train", recipe.seed)
    return list(islice(told, recipe.train)), list(islice(told, recipe.written))


def _shards(
    recipe: SpeakRecipe, train: Sequence[Story], voices: tuple[str, ...], held_out: tuple[str, ...]
) -> Iterator[Shard]:
    rng = random.Random(f"{recipe.seed}-voices")

    def voice() -> str:
        return rng.choice(held_out if rng.random() < recipe.voices.held_out_share else voices)

    def telling(id: str, story: Story, voice: str) -> Telling:
        return Telling(id, story.sentences, voice, _moods(recipe, id, story), SCENARIOS[story.scenario].place)

    def part(id: str, story: Story, sentences: tuple[str, ...], voice: str) -> Telling:
        return Telling(id, sentences, voice, (story.mood,) * len(sentences), SCENARIOS[story.scenario].place)

    tellings: dict[Split, list[list[Telling]]] = {split: [] for split in SPLITS}
    for number, story in enumerate(train):
        tellings["train"].append([telling(f"train-{number:05d}", story, rng.choice(voices))])
    for number, story in enumerate(islice(stories("dev", recipe.seed), recipe.dev)):
        tellings["dev"].append([telling(f"dev-{number:05d}", story, voice())])
    for number, item in enumerate(cloze_items(recipe.test_pairs, recipe.seed)):
        id, story, teller = f"test-{number:05d}", item.story, voice()
        parts = {"mutual": story.beginning, "correct": (story.ending,), "incorrect": (item.wrong_ending,)}
        tellings["test"].append([part(f"{id}_{name}", story, s, teller) for name, s in parts.items()])
    for split, items in tellings.items():
        for number, start in enumerate(range(0, len(items), recipe.shard_size)):
            chosen = items[start : start + recipe.shard_size]
            yield Shard(split, number, tuple(told for item in chosen for told in item))


def _moods(recipe: SpeakRecipe, id: str, story: Story) -> tuple[str, ...]:
    """Of each sentence; drawn apart from all else, so a larger share changes the same recordings and further ones."""
    rng, count = random.Random(f"{recipe.seed}-moods-{id}"), len(story.sentences)
    changes = rng.random() < recipe.mood_changes
    second = rng.choice([mood for mood in STYLES if mood != story.mood])
    until = rng.randrange(1, count) if changes else count
    return (story.mood,) * until + (second,) * (count - until)


def _record_shards(recipe: SpeakRecipe, folder: Path, shards: list[Shard]) -> None:
    for split in SPLITS:
        (folder / "wav" / split).mkdir(parents=True, exist_ok=True)
        remove_partial(folder / "wav" / split)
    left = [shard for shard in shards if not _shard_file(folder, shard).is_file()]
    record_shard = functools.partial(_record_shard, folder)
    with progress("speak", len(shards), len(shards) - len(left)) as bar:
        for _ in in_fresh_processes(record_shard, left, recipe.workers):
            bar.advance()


def _shard_file(folder: Path, shard: Shard) -> Path:
    return folder / f"shard-{shard.name}.json"


def _record_shard(folder: Path, shard: Shard) -> None:
    """Write the recordings of a shard, then the facts about them, which say that the shard is done."""
    rows = []
    for telling in shard.tellings:
        recording = record(telling)
        wav = Path("wav") / shard.split / f"{telling.id}.wav"
        write_wav(folder / wav, recording.wave, SAMPLE_RATE)
        if shard.split == "test":
            write_text((folder / wav).with_suffix(".txt"), " ".join(telling.sentences) + "\n")
        rows.append(
            {
                "id": telling.id,
                "wav": str(wav),
                "duration": len(recording.wave) / SAMPLE_RATE,
                "speaker": telling.voice,
                "custom": {"mood": telling.moods[0], "moods": recording.moods, "scenario": telling.scenario},
                "sentences": recording.sentences,
                "phones": recording.phones,
            }
        )
    write_json(_shard_file(folder, shard), rows)


def _collect(folder: Path, shards: list[Shard]) -> dict[str, Any]:
    """Manifests and phone times of all shards; the shards' own files are removed."""
    counts: dict[str, Any] = {}
    phones: list[dict[str, Any]] = []
    for split in SPLITS:
        rows = [row for s in shards if s.split == split for row in read_json(_shard_file(folder, s))]
        write_manifest(folder, split, [_document(row) for row in rows])
        phones += [{"id": row["id"], "phones": row["phones"]} for row in rows]
        sentences = [sentence for row in rows for sentence in row["sentences"]]
        counts[split] = {
            "recordings": len(rows),
            "hours": round(sum(row["duration"] for row in rows) / 3600, 3),
            "sentences": len(sentences),
            "words": sum(len(text.split()) for words in sentences for text, _, _ in words),
            "sentences_without_word_times": sum(len(words) == 1 for words in sentences),
            "speakers": dict(sorted(Counter(row["speaker"] for row in rows).items())),
        }
    write_jsonl(folder / "phones.jsonl", phones)
    for shard in shards:
        _shard_file(folder, shard).unlink()
    return counts


def _document(row: dict[str, Any]) -> SpokenDocument:
    return SpokenDocument(
        id=row["id"],
        audio=Path(row["wav"]),
        duration=row["duration"],
        sample_rate=SAMPLE_RATE,
        speaker=row["speaker"],
        sentences=tuple(Sentence.of_words([Word(*word) for word in words]) for words in row["sentences"]),
        custom=row["custom"],
    )


if __name__ == "__main__":
    run_program("speak", SpeakRecipe, speak, __doc__)
