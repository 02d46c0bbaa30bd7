"""Train a VQ-Whisper tokenizer: a Whisper with a codebook in its middle learns to write down what it hears.

In:  corpora (speak, ingest or align) whose sentences have a text; one of them may be pseudo-labelled. For a text
     decoder a text tokenizer (fit text); to start from a Whisper, its Hugging Face folder.
Out: `model/` (see `spiritlm/units/vq_whisper.py`); `rejects.jsonl` names what could not be read.
     Measured on the dev split of the first corpus: words heard wrong by the CTC head through the codes, codes used.
Several processes: torchrun --nproc-per-node N tokenizers/train_vq_whisper.py RECIPE.toml
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from spiritlm.alignment.words import windows
from spiritlm.audio.mel import SAMPLE_RATE
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest, splits_of
from spiritlm.corpus.sounds import LengthBatches, Sounds, Stretch, padded
from spiritlm.errors import InputError
from spiritlm.run.device import training_device
from spiritlm.run.fit import FitRecipe, fit, process_group
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.rejects import Rejects
from spiritlm.run.stage import Inputs, OptionalInput, Stage, StageRecipe, is_main_process
from spiritlm.scoring.error_rates import plain_words, word_error_rate
from spiritlm.tokens.text import TextTokenizer, load_text_tokenizer
from spiritlm.units.usage import perplexity
from spiritlm.units.vector_quantizer import kmeans
from spiritlm.units.vq_whisper import VqWhisper, VqWhisperConfig
from spiritlm.units.vq_whisper_files import start_from_whisper, whisper_shape
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

VECTORS_PER_CODE = 20
"""That the codebook's first centroids are sought among."""
UNLEARNED = -100


class TrainVqWhisperRecipe(StageRecipe):
    speech: Inputs = Field(min_length=1)
    """Corpora by name."""
    shares: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Of the steps, for each corpus, relative to the others (GLM-4-Voice: supervised 1, pseudo-labelled 3); without
    any, every stretch is as likely as every other."""
    text: OptionalInput = None
    """For the text decoder."""
    decoder_prompt: tuple[int, ...] = ()
    """Ids between the decoder's first and the text, for a Whisper that of language and task."""
    whisper: Path | None = None
    """Hugging Face folder whose sizes and weights to start from."""
    model: VqWhisperConfig
    training: FitRecipe
    batch_seconds: PositiveFloat = 120.0
    """Of sound in a step, padding included, over all processes."""
    sentences: tuple[PositiveInt, PositiveInt] = (1, 3)
    """Least and most sentences, one after the other, that are heard together."""
    max_seconds: PositiveFloat = 30.0
    """Of such a stretch; a sentence that alone is longer is left out."""
    margin: NonNegativeFloat = 0.12
    """Seconds around a stretch that are heard with it."""
    quantize_from: float = Field(default=0.4, ge=0, lt=1)
    """Share of the steps after which vectors become codes: k-means then sets the codebook. 0 for a start from a
    trained Whisper."""
    dev_recordings: PositiveInt = 60
    max_bad_fraction: float = 0.01
    """Largest share of stretches that may be rejected."""


@dataclass(frozen=True)
class Spoken:
    """A stretch of sound and what is said in it."""

    stretch: Stretch
    text: str
    letters: list[int]
    """For the CTC head."""
    speaker: str


def train_vq_whisper(recipe: TrainVqWhisperRecipe, stage: Stage) -> dict[str, Any]:
    text = load_text_tokenizer(recipe.text) if recipe.text else None
    config = _config(recipe, text)
    if unknown := sorted(set(recipe.shares).difference(recipe.speech)):
        raise InputError(f"shares.{unknown[0]}: no corpus of that name; there are {', '.join(recipe.speech)}")
    if recipe.shares and (left := sorted(set(recipe.speech).difference(recipe.shares))):
        raise InputError(f"shares: expected one for each corpus or none, found none for {left[0]}")
    spoken, left_out = _all_spoken(recipe, config)
    with process_group() as (rank, ranks):
        rejects = Rejects(stage.folder, recipe.max_bad_fraction)
        batches = Batches(recipe, config, text, spoken, rejects, ranks)

        def own_part(step: int) -> dict[str, torch.Tensor]:
            return batches.of_step(step, rank, ranks)

        torch.manual_seed(recipe.training.seed)
        model = VqWhisper(config)
        if recipe.whisper:
            start_from_whisper(model, recipe.whisper)
        first = round(recipe.quantize_from * recipe.training.steps)

        def before_step(step: int) -> None:
            model.quantizing = step > first
            if step == first:
                model.encoder.codebook.start(_centroids(model, own_part, first, recipe.training.seed))
                model.quantizing = True

        losses = fit(
            model,
            lambda module, batch: model.losses(batch),
            own_part,
            recipe.training,
            stage.folder,
            "train vq-whisper",
            before_step,
        )
        rejected = rejects.close(sum(map(len, spoken.values())))
    counts: dict[str, Any] = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": recipe.training.steps,
        "hours": {name: round(sum(s.stretch.seconds for s in part) / 3600, 3) for name, part in spoken.items()},
        "left_out": left_out,
        "rejected": rejected,
        "train": {name: round(value, 4) for name, value in losses.items()},
    }
    if is_main_process():
        tokenizer = VqWhisperTokenizer(model)
        tokenizer.save_pretrained(stage.folder / "model")
        counts["dev"] = _measure(recipe, tokenizer)
    return counts


def _config(recipe: TrainVqWhisperRecipe, text: TextTokenizer | None) -> VqWhisperConfig:
    """The recipe's, with the sizes of the Whisper or of the text tokenizer."""
    config = recipe.model
    if recipe.whisper:
        config = config.model_copy(update=whisper_shape(recipe.whisper, decoder=text is not None))
    elif config.decoder_layers and text is not None:
        ids = {"vocab_size": text.size, "pad_token_id": text.eos, "decoder_start_token_id": text.bos}
        config = config.model_copy(update=ids)
    if config.decoder_layers and text is None:
        raise InputError(f"model.decoder_layers = {config.decoder_layers}: a text decoder needs text, a fit text stage")
    if text is not None and text.size > config.vocab_size:
        raise InputError(f"text: {text.size} ids, but the decoder of {recipe.whisper} has {config.vocab_size}")
    if not config.decoder_layers and not config.ctc_letters:
        raise InputError("model: expected decoder_layers, ctc_letters or both: nothing else tells what is said")
    return VqWhisperConfig.model_validate(config.model_dump())


def _all_spoken(recipe: TrainVqWhisperRecipe, config: VqWhisperConfig) -> tuple[dict[str, list[Spoken]], int]:
    """The training stretches of each corpus, and how many stretches were left out."""
    rng = np.random.default_rng(recipe.training.seed)
    spoken: dict[str, list[Spoken]] = {}
    left_out = 0
    for name, corpus in recipe.speech.items():
        found: list[Spoken] = []
        root = corpus_root(corpus)
        for document in read_manifest(corpus, "train"):
            for item in stretches(document, root, recipe, rng):
                letters = spelt(item.text, config)
                if letters is None or not _fits(item, letters, config, recipe.max_seconds):
                    left_out += 1
                else:
                    found.append(Spoken(item.stretch, item.text, letters, item.speaker))
        if not found:
            raise InputError(f"speech.{name} = {corpus}: split train has no sentence to train on")
        spoken[name] = found
    return (spoken if recipe.shares else {"all": [s for part in spoken.values() for s in part]}), left_out


def stretches(
    document: SpokenDocument, root: Path, recipe: TrainVqWhisperRecipe, rng: np.random.Generator
) -> list[Spoken]:
    """The sentences of a recording in runs of random length, each run once; those without a text are left out."""
    told = [sentence for sentence in document.sentences if sentence.text.strip()]
    places = windows([s.start for s in told], [s.end for s in told], document.duration, recipe.margin) if told else []
    found, first = [], 0
    while first < len(told):
        last = min(len(told), first + int(rng.integers(recipe.sentences[0], recipe.sentences[1] + 1)))
        while last > first + 1 and places[last - 1][1] - places[first][0] > recipe.max_seconds:
            last -= 1
        text = " ".join(sentence.text for sentence in told[first:last])
        stretch = Stretch(root / document.audio, places[first][0], places[last - 1][1])
        found.append(Spoken(stretch, text, [], document.speaker))
        first = last
    return found


def spelt(text: str, config: VqWhisperConfig) -> list[int] | None:
    """Ids of the CTC head; None where a word has a sign that it cannot write, such as a digit."""
    written = " ".join(plain_words(text))
    if not config.ctc_letters:
        return []
    if not written or any(letter not in config.ctc_letters for letter in written):
        return None
    return [1 + config.ctc_letters.index(letter) for letter in written]


def _fits(item: Spoken, letters: Sequence[int], config: VqWhisperConfig, max_seconds: float) -> bool:
    """Whether a segment holds the stretch, and its CTC frames the letters, a blank between equal ones."""
    frames = int(item.stretch.seconds * config.rate) * config.ctc_frames
    repeated = sum(a == b for a, b in pairwise(letters))
    longest = min(max_seconds, config.segment_samples / SAMPLE_RATE)
    return item.stretch.seconds <= longest and len(letters) + repeated <= frames


class Batches:
    """Sound and texts of a step, a pure function of it."""

    def __init__(
        self,
        recipe: TrainVqWhisperRecipe,
        config: VqWhisperConfig,
        text: TextTokenizer | None,
        spoken: dict[str, list[Spoken]],
        rejects: Rejects,
        ranks: int,
    ) -> None:
        self.recipe, self.config, self.text, seed = recipe, config, text, recipe.training.seed
        self.spoken = list(spoken.values())
        total = sum(map(len, self.spoken))
        self.sounds = [Sounds([s.stretch for s in part], SAMPLE_RATE, rejects, total) for part in self.spoken]
        self.lengths = [
            LengthBatches(np.array([s.stretch.seconds for s in part]), recipe.batch_seconds, seed, ranks)
            for part in self.spoken
        ]
        shares = np.array([recipe.shares.get(name, 1.0) for name in spoken])
        self.corpus = np.random.default_rng(seed).choice(len(shares), recipe.training.steps, p=shares / shares.sum())

    def of_step(self, step: int, rank: int, ranks: int) -> dict[str, torch.Tensor]:
        """What `VqWhisper.losses` takes; steps beyond the last begin again."""
        step %= len(self.corpus)
        corpus = self.corpus[step]
        numbers = self.lengths[corpus].of_step(int(np.count_nonzero(self.corpus[:step] == corpus)))
        read, waves = self.sounds[corpus].read(numbers[rank::ranks])
        chosen = [self.spoken[corpus][number] for number in read]
        batch = padded(waves, self.config.unit_samples)
        if self.config.ctc_letters:
            batch["letters"] = _rows([item.letters for item in chosen], 0)
            batch["letter_counts"] = torch.tensor([len(item.letters) for item in chosen])
        if self.config.decoder_layers:
            assert self.text is not None
            batch["labels"] = _rows([self._label(item.text) for item in chosen], UNLEARNED)
        return batch

    def _label(self, text: str) -> list[int]:
        assert self.text is not None
        ids = [*self.recipe.decoder_prompt, *self.text.encode(text), self.text.eos]
        return ids[: self.config.max_target_positions]


def _rows(rows: Sequence[Sequence[int]], fill: int) -> torch.Tensor:
    """int64 `[rows, longest]`."""
    table = torch.full((len(rows), max(map(len, rows))), fill)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = torch.tensor(values)
    return table


@torch.no_grad()
def _centroids(
    model: VqWhisper, batches: Callable[[int], dict[str, torch.Tensor]], step: int, seed: int
) -> torch.Tensor:
    """K-means of the vectors of the batches from `step` on, `[codes, d_model]`; the same in all processes."""
    codes, device = model.config.quantize_vocab_size, training_device()
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    wanted = -(-VECTORS_PER_CODE * codes // ranks)
    found: list[torch.Tensor] = []
    while sum(map(len, found)) < wanted:
        batch = {name: tensor.to(device) for name, tensor in batches(step + len(found)).items()}
        found.append(model.sounding_vectors(batch))
    vectors = torch.cat(found)[:wanted].float()
    if ranks > 1:
        parts = [torch.empty_like(vectors) for _ in range(ranks)]
        dist.all_gather(parts, vectors)
        vectors = torch.cat(parts)
    centroids = kmeans(vectors, codes, seed)
    if ranks > 1:
        dist.broadcast(centroids, 0)
    return centroids


def _measure(recipe: TrainVqWhisperRecipe, tokenizer: VqWhisperTokenizer) -> dict[str, Any]:
    """Of the dev split of the first corpus, sentence by sentence."""
    name, corpus = next(iter(recipe.speech.items()))
    if "dev" not in splits_of(corpus):
        return {}
    known = {document.speaker for document in read_manifest(corpus, "train")}
    single = recipe.model_copy(update={"sentences": (1, 1)})
    rng, root = np.random.default_rng(0), corpus_root(corpus)
    documents = list(islice(read_manifest(corpus, "dev"), recipe.dev_recordings))
    found = [item for document in documents for item in stretches(document, root, single, rng)]
    items = [item for item in found if item.stretch.seconds * SAMPLE_RATE <= tokenizer.config.segment_samples]
    if not items:
        return {}
    sounds = Sounds([item.stretch for item in items], SAMPLE_RATE, Rejects(recipe.out, 1.0))
    usage = np.zeros(tokenizer.vocabulary_size, np.int64)
    heard: dict[str, list[tuple[str, str]]] = {"seen_speakers": [], "unseen_speakers": []}
    for number, item in enumerate(track(items, f"measure {name} dev", len(items))):
        [read], [wave] = sounds.read([number])
        if read != number:
            continue  # it cannot be read, and another stands in for it
        units = tokenizer.encode(wave, SAMPLE_RATE).semantic.values
        usage += np.bincount(units, minlength=len(usage))
        if tokenizer.config.ctc_letters:
            whose = "seen_speakers" if item.speaker in known else "unseen_speakers"
            heard[whose].append((item.text, tokenizer.transcribe(units)))
    rates = {f"wer_{whose}": round(word_error_rate(pairs).value, 4) for whose, pairs in heard.items() if pairs}
    return {
        "sentences": len(items),
        **rates,
        "codes_used": int(np.count_nonzero(usage)),
        "perplexity": round(perplexity(usage), 1),
    }


if __name__ == "__main__":
    run_program("train vq-whisper", TrainVqWhisperRecipe, train_vq_whisper, __doc__)
