"""Make the small world's own benchmarks, spoken by its synthesizers, in the layouts of the public ones.

In:  the corpus of `synth_data/speak.py`: its training words, stories and voices.
Out: `swuggy/lexical/dev` and `sblimp/syntactic/dev` (`gold.csv` and recordings), `storycloze` and `topic_storycloze`
     (`NAME_mutual`, `NAME_correct`, `NAME_incorrect`, `.wav` and `.txt`, and `items.csv`), `librispeech`, `story_qa`
     and `stsp` (spiritlm/smallworld/answers.py), and `suites.json`: which voices and words are held out.
A pair of sWUGGY and sBLIMP is said by two voices, one heard in training and one never; a story by one of either.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field

from spiritlm.config import validate_recipe
from spiritlm.corpus.manifest import read_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import read_jsonl, write_json, write_text
from spiritlm.run.program import run_program
from spiritlm.run.stage import Input, Stage, StageRecipe, read_stage
from spiritlm.run.workers import map_in_workers
from spiritlm.smallworld.answers import Benchmark, read_aloud, sentiments, story_questions
from spiritlm.smallworld.minimal_pairs import MinimalPair, minimal_pairs, told_texts
from spiritlm.smallworld.nonwords import HELD_OUT_WORDS, WordPair, read_word_list, word_lists, word_pairs
from spiritlm.smallworld.recording import cut_shards, forget_shards, read_shard, record_shards
from spiritlm.smallworld.stories import ClozeItem, cloze_items, contradiction_items
from spiritlm.smallworld.telling import Telling, cloze_tellings
from spiritlm.smallworld.voices import VoicesRecipe, pronouncers, voices_here, way

VERSION = 2
"""Raised whenever the same recipe gives other suites."""
MOOD = "happy"
"""Of single words and sentences: the mood that changes a voice least."""
HELD_OUT_SHARE = 5
"""One pair of sWUGGY in so many is of a held-out word."""
FOLDERS = {
    "swuggy": Path("swuggy/lexical/dev"),
    "sblimp": Path("sblimp/syntactic/dev"),
    "storycloze": Path("storycloze"),
    "topic_storycloze": Path("topic_storycloze"),
}
SIDES = {"right": 1, "wrong": 0}


class SuitesRecipe(StageRecipe):
    speech: Input
    seed: int = 0
    pairs: int = Field(default=1000, ge=10, multiple_of=2)
    """Of each suite of pairs."""
    sentences: int = Field(default=400, ge=2)
    """Of each split of `librispeech`."""
    questions: int = Field(default=400, ge=2, multiple_of=2)
    """Of each set of `story_qa`."""
    prompts: int = Field(default=160, ge=8, multiple_of=8)
    """Of each manifest of `stsp`."""
    shard_size: int = Field(default=32, ge=1)
    """Pairs a process speaks."""
    workers: int = Field(default=0, ge=0)
    """Processes at a time; 0 means one a core."""


@dataclass(frozen=True)
class Speech:
    """What the suites must know of the corpus."""

    frequency: Counter[str]
    """Of each word in the recordings of the train split; lower case."""
    told: set[str]
    """See `told_texts`; of all training stories, written ones too."""
    seen: tuple[str, ...]
    """Voices of the train split that are on this machine."""
    unseen: tuple[str, ...]


@dataclass(frozen=True)
class Words:
    """The pairs of sWUGGY."""

    pairs: list[WordPair]
    phones: dict[tuple[str, str], tuple[str, ...]]
    """Of each spelling in each way that voices pronounce."""


class Spoken(NamedTuple):
    """A pair in one voice."""

    id: int
    voice: str
    texts: tuple[str, ...]
    """The right one, the wrong one."""
    columns: tuple[dict[str, Any], ...]
    """Of their rows in `gold.csv`."""

    def tellings(self) -> list[Telling]:
        named = zip(map(self.name, SIDES), self.texts, strict=True)
        return [Telling(name, (text,), self.voice, (MOOD,), "") for name, text in named]

    def name(self, side: str) -> str:
        return f"{self.id:04d}_{self.voice.partition(':')[2]}_{side}"


def make_suites(recipe: SuitesRecipe, stage: Stage) -> dict[str, Any]:
    speech, lists = read_speech(recipe.speech), word_lists()
    if not lists:
        print("  no list of English words on this machine: a non-word may be an English word that no story has")
    words = _words(recipe, speech, lists)
    sentences = minimal_pairs(recipe.pairs, recipe.seed, speech.told)
    heard = {"swuggy": _heard_words(recipe, speech, words), "sblimp": _heard_sentences(recipe, speech, sentences)}
    items = {
        "storycloze": contradiction_items(recipe.pairs // 2, recipe.seed),
        "topic_storycloze": cloze_items(recipe.pairs // 2, recipe.seed),
    }
    tellings = {name: _cloze_tellings(recipe, speech, name, found) for name, found in items.items()}
    cut = partial(cut_shards, size=recipe.shard_size)
    shards = {name: list(cut(name, FOLDERS[name], [pair.tellings() for pair in heard[name]])) for name in heard}
    shards |= {name: list(cut(name, FOLDERS[name], tellings[name], written=True)) for name in tellings}
    answers = _answers(recipe, speech)
    shards |= {name: benchmark.shards for name, benchmark in answers.items()}
    record_shards("speak", stage.folder, [shard for found in shards.values() for shard in found], recipe.workers)
    facts = {name: [row for s in found for row in read_shard(stage.folder, s)] for name, found in shards.items()}
    for name in heard:
        _write_table(stage.folder / FOLDERS[name] / "gold.csv", _gold_rows(heard[name]))
    for name in tellings:
        _write_table(stage.folder / FOLDERS[name] / "items.csv", _item_rows(items[name], tellings[name]))
    by_shard = {s.name: read_shard(stage.folder, s) for name in answers for s in shards[name]}
    for benchmark in answers.values():
        for path, text in benchmark.files(by_shard).items():
            (stage.folder / path).parent.mkdir(parents=True, exist_ok=True)
            write_text(stage.folder / path, text)
    write_json(stage.folder / "suites.json", _description(recipe, speech, words, sentences, lists))
    forget_shards(stage.folder, [shard for found in shards.values() for shard in found])
    return {name: _counts(rows) for name, rows in facts.items()}


def _answers(recipe: SuitesRecipe, speech: Speech) -> dict[str, Benchmark]:
    voices = _voices(recipe, speech, "story_qa")
    seen, unseen, seed, size = speech.seen, speech.unseen, recipe.seed, recipe.shard_size
    return {
        "librispeech": read_aloud(seen, unseen, recipe.sentences, seed),
        "story_qa": story_questions(recipe.questions // 2, seed, voices, size),
        "stsp": sentiments(recipe.prompts, seed, seen, unseen, size),
    }


def read_speech(folder: Path) -> Speech:
    """Raises `InputError` where the folder is of another stage, or its voices are not on this machine."""
    made = read_stage(folder)
    if made["stage"] != "speak":
        raise InputError(f"speech = {folder}: holds stage {made['stage']!r}, expected one of synth_data/speak.py")
    voices = validate_recipe(VoicesRecipe, made["recipe"]["voices"], f"{folder}: recipe")
    train, held_out = voices_here(voices)
    documents = read_manifest(folder, "train")
    speakers = {document.speaker for document in documents}
    seen = tuple(sorted(speakers.intersection(train)))
    unseen = tuple(sorted(set(held_out) - speakers))
    if not seen or not unseen:
        missing = "training voice" if not seen else "held-out voice"
        raise InputError(f"speech = {folder}: no {missing} of it is on this machine")
    spoken = [[sentence.text for sentence in document.sentences] for document in documents]
    written = [re.split(r"(?<=\.) ", row["text"]) for row in read_jsonl(folder / "stories.jsonl")]
    frequency = Counter(word for texts in spoken for text in texts for word in text.lower().replace(".", "").split())
    return Speech(frequency, told_texts([*spoken, *written]), seen, unseen)


def _words(recipe: SuitesRecipe, speech: Speech, lists: Sequence[Path]) -> Words:
    """In a process of its own, since synthesizers are loaded into it."""
    (found,) = map_in_workers(partial(_find_words, recipe, speech), [lists], workers=1)
    return found


def _find_words(recipe: SuitesRecipe, speech: Speech, lists: Sequence[Path]) -> Words:
    english = set().union(*map(read_word_list, lists))
    pronounce = pronouncers([*speech.seen, *speech.unseen])
    ways = list(pronounce.values())
    held_out = 2 * round(recipe.pairs / 2 / HELD_OUT_SHARE)
    pairs = word_pairs(speech.frequency, english, ways, recipe.pairs - held_out, recipe.seed)
    english |= {pair.nonword for pair in pairs}
    pairs += word_pairs(HELD_OUT_WORDS, english, ways, held_out, recipe.seed)
    phones = {(name, spelled): say(spelled) for name, say in pronounce.items() for pair in pairs for spelled in pair}
    return Words(pairs, phones)


def _heard_words(recipe: SuitesRecipe, speech: Speech, words: Words) -> list[Spoken]:
    def columns(pair: WordPair, voice: str) -> Iterator[dict[str, Any]]:
        for spelled, frequency in zip(pair, (speech.frequency[pair.word], ""), strict=True):
            phones = words.phones[way(voice), spelled]
            yield {"frequency": frequency, "word": spelled, "phones": " ".join(phones), "length": len(phones)}

    return [
        Spoken(id, voice, tuple(f"{spelled}." for spelled in pair), tuple(columns(pair, voice)))
        for id, (pair, both) in enumerate(zip(words.pairs, _voices(recipe, speech, "swuggy"), strict=False))
        for voice in both
    ]


def _heard_sentences(recipe: SuitesRecipe, speech: Speech, sentences: Sequence[MinimalPair]) -> list[Spoken]:
    def columns(pair: MinimalPair) -> Iterator[dict[str, Any]]:
        for text in (pair.right, pair.wrong):
            yield {"type": pair.type, "subtype": pair.subtype, "transcription": text}

    return [
        Spoken(id, voice, (pair.right, pair.wrong), tuple(columns(pair)))
        for id, (pair, both) in enumerate(zip(sentences, _voices(recipe, speech, "sblimp"), strict=False))
        for voice in both
    ]


def _cloze_tellings(
    recipe: SuitesRecipe, speech: Speech, name: str, items: Sequence[ClozeItem]
) -> list[tuple[Telling, ...]]:
    """Partners have one voice and one mood, of one of the two stories, so that neither says which ending is right."""
    tellings = []
    for number, (item, both) in enumerate(zip(items, _voices(recipe, speech, name), strict=False)):
        couple = number // 2
        model = items[2 * couple + couple // 2 % 2].story
        tellings.append(cloze_tellings(f"{number:04d}", item, both[couple % 2], model.mood))
    return tellings


def _voices(recipe: SuitesRecipe, speech: Speech, suite: str) -> Iterator[tuple[str, str]]:
    """A voice heard in training and a held-out one, the same twice in a row: for both pairs of a couple."""
    rng = random.Random(f"{recipe.seed}-{suite}-voices")
    while True:
        both = rng.choice(speech.seen), rng.choice(speech.unseen)
        yield both
        yield both


def _gold_rows(pairs: Sequence[Spoken]) -> Iterator[dict[str, Any]]:
    """In the columns of the official tables; right and wrong recordings alternate."""
    for pair in pairs:
        for side, columns in zip(SIDES, pair.columns, strict=True):
            yield {
                "filename": pair.name(side),
                "id": pair.id,
                "voice": pair.voice,
                **columns,
                "correct": SIDES[side],
            }


def _item_rows(items: Sequence[ClozeItem], tellings: Sequence[Sequence[Telling]]) -> Iterator[dict[str, Any]]:
    for item, (mutual, *_) in zip(items, tellings, strict=True):
        name, mood = mutual.id.removesuffix("_mutual"), mutual.moods[0]
        yield {"name": name, "voice": mutual.voice, "mood": mood, "scenario": mutual.scenario, "ends": item.story.mood}


def _write_table(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    found = list(rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    write_text(path, table.getvalue())


def _description(
    recipe: SuitesRecipe,
    speech: Speech,
    words: Words,
    sentences: Sequence[MinimalPair],
    lists: Sequence[Path],
) -> dict[str, Any]:
    held_out = sorted({pair.word for pair in words.pairs if not speech.frequency[pair.word]})
    return {
        "version": VERSION,
        "seed": recipe.seed,
        "pairs": recipe.pairs,
        "voices": {"seen": list(speech.seen), "unseen": list(speech.unseen)},
        "swuggy": {
            "words": len({pair.word for pair in words.pairs}),
            "held_out_pairs": sum(pair.word in held_out for pair in words.pairs),
            "held_out_words": held_out,
            "english_word_lists": [path.name for path in lists],
        },
        "sblimp": {"subtypes": dict(Counter(pair.subtype for pair in sentences))},
    }


def _counts(facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    hours = sum(row["duration"] for row in facts) / 3600
    return {"recordings": len(facts), "hours": round(hours, 3)}


if __name__ == "__main__":
    run_program("suites", SuitesRecipe, make_suites, __doc__)
