"""Take in a corpus as it lies on disk: LibriSpeech, MLS, Emilia, NeMo, lhotse, or a folder of recordings.

In:  a corpus in one of these layouts (docs/data.md).
Out: a corpus folder: lhotse manifests of the splits there are, `corpus.json` with the root of the audio, which
     stays where it is (layout `folder` alone writes its speech anew, cut), `rejects.jsonl` with what cannot be used.
Documents come in the order of the corpus, whatever the number of workers. Names and transcripts pass through in
batches; audio is opened in worker processes only, for its header.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, model_validator

from spiritlm.config import Recipe
from spiritlm.corpus.layouts.check import Checked, check
from spiritlm.corpus.layouts.emilia import read_emilia
from spiritlm.corpus.layouts.folder import cut, read_folder
from spiritlm.corpus.layouts.found import Found, Reject
from spiritlm.corpus.layouts.lhotse import read_lhotse
from spiritlm.corpus.layouts.librispeech import read_librispeech
from spiritlm.corpus.layouts.mls import read_mls
from spiritlm.corpus.layouts.nemo import read_nemo
from spiritlm.corpus.manifest import CORPUS_FILE, Sentence, SpokenDocument, Word, write_manifest
from spiritlm.errors import InputError
from spiritlm.run.files import TEMPORARY, atomic_path, write_json, write_jsonl
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.stage import Stage, StageRecipe
from spiritlm.run.workers import map_in_workers

SPLITS = ("train", "dev", "test")
BATCH = 8192
"""Recordings whose headers are read between two writes."""
CUT_BATCH = 256
"""The same where recordings are cut, which takes longer."""
READERS: dict[str, Callable[[Path, str], Iterator[Found | Reject]]] = {
    "emilia": read_emilia,
    "folder": read_folder,
    "lhotse": read_lhotse,
    "librispeech": read_librispeech,
    "mls": read_mls,
    "nemo": read_nemo,
}


class SplitsRecipe(Recipe):
    """Folders (librispeech, mls, folder) or glob patterns of manifests (emilia, nemo, lhotse) under the root."""

    train: tuple[str, ...] = Field(min_length=1)
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()


class IngestRecipe(StageRecipe):
    layout: Literal["emilia", "folder", "lhotse", "librispeech", "mls", "nemo"]
    root: Path
    """Folder of the corpus; no audio outside it is opened."""
    splits: SplitsRecipe
    dev_fraction: float = Field(default=0.0, ge=0, lt=1)
    """Share of `train` that becomes `dev`, by a digest of the recording's id; for corpora without a dev split."""
    min_seconds: NonNegativeFloat = 0.3
    max_seconds: float = Field(default=3600.0, gt=0)
    """Longer recordings are left out; layout `folder` cuts them."""
    languages: tuple[str, ...] = ()
    """As the corpus writes them (`en`); recordings in others, or in none, are left out. Empty: all."""
    min_dnsmos: float = 0.0
    """Quality below which a recording is left out; Emilia states it."""
    max_hours: NonNegativeFloat = 0.0
    """Reading ends when `train` has as much; 0: no end."""
    lowercase: bool = False
    """Transcripts in capitals, as LibriSpeech's are, become lower case."""
    check_audio: bool = True
    """Read the header of every file; otherwise only where the layout states no duration or sample rate."""
    max_bad_fraction: float = Field(default=0.01, ge=0, le=1)
    """Largest share of sentences that may be lost to rejects; a recording without any counts as one."""
    workers: NonNegativeInt = 0
    """Processes that open audio; 0 means one a core."""

    @model_validator(mode="after")
    def _check(self) -> IngestRecipe:
        if self.dev_fraction and self.splits.dev:
            raise InputError("dev_fraction: splits.dev names a dev split already; give one of the two")
        return self


class Tally:
    """What was taken, left out on purpose and rejected."""

    def __init__(self) -> None:
        self.rejects: list[Reject] = []
        self.left_out: Counter[str] = Counter()
        self.seconds = dict.fromkeys(SPLITS, 0.0)
        self.counts: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
        self.speakers: dict[str, set[str]] = {split: set() for split in SPLITS}
        self.ids: set[str] = set()
        self.sample_rates: Counter[int] = Counter()
        self.channels: Counter[int] = Counter()
        self.sentences = 0

    def take(self, split: str, document: SpokenDocument, channels: int) -> None:
        words = [word for sentence in document.sentences for word in sentence.text.split()]
        self.seconds[split] += document.duration
        self.counts[split] += Counter(
            documents=1,
            sentences=len(document.sentences),
            sentences_with_word_times=sum(bool(sentence.words) for sentence in document.sentences),
            words=len(words),
        )
        self.speakers[split].add(document.speaker)
        self.sample_rates[document.sample_rate] += 1
        self.channels[channels] += 1

    def result(self) -> dict[str, Any]:
        splits = {
            split: {
                **{
                    key: self.counts[split][key]
                    for key in ("documents", "sentences", "sentences_with_word_times", "words")
                },
                "hours": round(self.seconds[split] / 3600, 3),
                "speakers": len(self.speakers[split]),
            }
            for split in SPLITS
        }
        return {
            **splits,
            "rejected": len(self.rejects),
            "rejects": dict(sorted(Counter(reject.kind for reject in self.rejects).items())),
            "left_out": dict(sorted(self.left_out.items())),
            "sample_rates": {str(rate): n for rate, n in sorted(self.sample_rates.items())},
            "channels": {str(channels): n for channels, n in sorted(self.channels.items())},
        }


class Writer:
    """The manifests of splits, written batch by batch; they appear when `stack` ends well."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._files: dict[str, IO[bytes]] = {}

    def write(self, split: str, documents: list[SpokenDocument]) -> None:
        batch = self._folder / f"{TEMPORARY}batch"
        batch.mkdir(exist_ok=True)
        write_manifest(batch, split, documents)
        for path in batch.iterdir():
            self._file(path.name).write(path.read_bytes())
            path.unlink()
        batch.rmdir()

    def _file(self, name: str) -> IO[bytes]:
        if name not in self._files:
            path = self._stack.enter_context(atomic_path(self._folder / name))
            self._files[name] = self._stack.enter_context(path.open("wb"))
        return self._files[name]


def ingest(recipe: IngestRecipe, stage: Stage) -> dict[str, Any]:
    root = recipe.root.absolute()
    if not root.is_dir():
        raise InputError(f"root = {recipe.root}: expected the folder of the corpus, but there is none")
    if stage.folder.resolve().is_relative_to(root.resolve()):
        raise InputError(f"out = {recipe.out}: it lies in root = {recipe.root}, where it would be read as a part of it")
    tally = Tally()
    with ExitStack() as stack:
        writer = Writer(stage.folder, stack)
        for split in SPLITS:
            for batch in _batches(_all_found(recipe, root, split), CUT_BATCH if recipe.layout == "folder" else BATCH):
                _take_batch(recipe, root, stage.folder, split, batch, tally, writer)
                if split == "train" and _is_enough(recipe, tally):
                    break
        write_jsonl(stage.folder / "rejects.jsonl", ({"item": r.item, "reason": r.reason} for r in tally.rejects))
        _refuse_too_many(recipe, stage.folder, tally)
        if not tally.counts["train"]["documents"]:
            raise InputError(f"{root}: no recording of split train can be used; left out: {dict(tally.left_out)}")
    if recipe.layout != "folder":
        write_json(stage.folder / CORPUS_FILE, {"root": str(root)})
    return tally.result()


def _all_found(recipe: IngestRecipe, root: Path, split: str) -> Iterator[Found | Reject]:
    for name in getattr(recipe.splits, split):
        yield from READERS[recipe.layout](root, name)


def _batches(items: Iterator[Found | Reject], size: int) -> Iterator[list[Found | Reject]]:
    while batch := list(islice(items, size)):
        yield batch


def _take_batch(
    recipe: IngestRecipe,
    root: Path,
    out: Path,
    split: str,
    batch: list[Found | Reject],
    tally: Tally,
    writer: Writer,
) -> None:
    new = list(_new(recipe, batch, tally))
    if recipe.layout == "folder":
        work = partial(cut, root=root, out=out, max_seconds=recipe.max_seconds)
        checked = track(map_in_workers(work, new, recipe.workers, chunk=1), f"cut {split}", len(new))
    else:
        checked = map_in_workers(partial(check, root=root, read_header=recipe.check_audio), new, recipe.workers, 64)
    taken: dict[str, list[SpokenDocument]] = {name: [] for name in SPLITS}
    for found, looked_at in zip(new, checked, strict=True):
        into = _split_of(found.id, split, recipe.dev_fraction)
        taken[into] += _kept(recipe, into, looked_at, tally)
    for name, documents in taken.items():
        if documents:
            writer.write(name, documents)
    done = sum(tally.counts[name]["documents"] for name in SPLITS)
    hours = sum(tally.seconds.values()) / 3600
    print(f"  {split}: {done} documents so far, {hours:.1f} hours, {len(tally.rejects)} rejects", flush=True)


def _new(recipe: IngestRecipe, batch: Iterable[Found | Reject], tally: Tally) -> Iterator[Found]:
    """Recordings with ids not met before, in languages and of a quality that is wanted."""
    for found in batch:
        if isinstance(found, Reject):
            tally.sentences += found.sentences
            tally.rejects.append(found)
            continue
        if recipe.languages and found.custom.get("language") not in recipe.languages:
            tally.left_out["language"] += 1
            continue
        if recipe.min_dnsmos and float(found.custom.get("dnsmos", 0)) < recipe.min_dnsmos:
            tally.left_out["dnsmos"] += 1
            continue
        tally.sentences += max(1, len(found.sentences))
        if found.id in tally.ids:
            detail = f"its audio is {found.audio}"
            tally.rejects.append(Reject(found.id, "id met before", detail, max(1, len(found.sentences))))
            continue
        tally.ids.add(found.id)
        yield found


def _kept(recipe: IngestRecipe, split: str, checked: Checked, tally: Tally) -> Iterator[SpokenDocument]:
    tally.rejects += checked.rejects
    for document in checked.documents:
        if _is_enough(recipe, tally) and split == "train":
            tally.left_out["over max_hours"] += 1
        elif document.duration < recipe.min_seconds:
            tally.left_out["shorter than min_seconds"] += 1
        elif document.duration > recipe.max_seconds + 0.001:
            tally.left_out["longer than max_seconds"] += 1
        else:
            kept = _lower(document) if recipe.lowercase else document
            tally.take(split, kept, checked.channels)
            yield kept


def _is_enough(recipe: IngestRecipe, tally: Tally) -> bool:
    return recipe.max_hours > 0 and tally.seconds["train"] >= recipe.max_hours * 3600


def _lower(document: SpokenDocument) -> SpokenDocument:
    sentences = (
        Sentence(s.text.lower(), s.start, s.end, tuple(Word(w.text.lower(), w.start, w.end) for w in s.words))
        for s in document.sentences
    )
    return replace(document, sentences=tuple(sentences))


def _split_of(id: str, split: str, dev_fraction: float) -> str:
    if split != "train" or not dev_fraction:
        return split
    digest = int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "big")
    return "dev" if digest < dev_fraction * 2**64 else "train"


def _refuse_too_many(recipe: IngestRecipe, folder: Path, tally: Tally) -> None:
    lost = sum(reject.sentences for reject in tally.rejects)
    if lost > recipe.max_bad_fraction * tally.sentences:
        first = tally.rejects[0]
        raise InputError(
            f"{lost} of {tally.sentences} sentences cannot be used, more than max_bad_fraction = "
            f"{recipe.max_bad_fraction}; the first is {first.item}: {first.reason} (all in {folder / 'rejects.jsonl'})"
        )


if __name__ == "__main__":
    run_program("ingest", IngestRecipe, ingest, __doc__)
