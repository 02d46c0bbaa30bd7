"""Recognisers of speech, as judges of how well it is understood; each heard alone, whatever is heard beside it.

    sphinx           pocketsphinx: a bigram of the sentences that it is given, or without any its own English
    ctc:FOLDER       the CTC head of a VQ-Whisper tokenizer, on the units that it makes of the speech
    whisper:FOLDER   a Whisper of transformers: the likeliest tokens, in English

Given its sentences, pocketsphinx knows a task's words and which follows which. Its own English understands small-world
recordings badly (56 % of words wrong on flite's voices; on espeak-ng's even with a closed grammar half). So a figure
means something on flite's voices, beside that of the recordings themselves. Whisper may write digits where a text has
words ("20", "twenty"): they count as errors.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from safetensors import SafetensorError

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech
from spiritlm.run.device import training_device
from spiritlm.run.files import files_below, read_json, sha256_files, sha256_json
from spiritlm.run.progress import track
from spiritlm.scoring.error_rates import plain_words
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.vq_whisper_tokenizer import VqWhisperTokenizer

SAMPLE_RATE = 16_000
"""Hz, of what all of them hear."""
BEGIN, END = "<s>", "</s>"
DISCOUNT = 0.5
"""Taken from every bigram that was counted, for those that were not (absolute discounting)."""
DIGITS = 12
"""Of a digest, in the name of a judge."""
MOMENT = SAMPLE_RATE // 10
"""Samples over which it is quiet where long speech is cut."""
BATCH_SIZE = 16
"""Pieces that Whisper hears together; no text depends on it."""
SPECS = ("sphinx", "ctc:FOLDER", "whisper:FOLDER")


@dataclass(frozen=True)
class Listener:
    """A judge of speech: see `Recognizer` in `scoring/judges.py`."""

    name: str
    hear: Callable[[Sequence[np.ndarray]], list[str]]
    """Of waves float32 `[samples]` at 16 kHz, at least one sample each."""

    def __call__(self, spoken: Sequence[Speech]) -> list[str]:
        waves = [_at_16_khz(speech) for speech in spoken]
        sounding = [wave for wave in waves if len(wave)]
        heard = iter(self.hear(sounding) if sounding else [])
        return [next(heard) if len(wave) else "" for wave in waves]


def _at_16_khz(speech: Speech) -> np.ndarray:
    if speech.sample_rate == SAMPLE_RATE:
        return speech.wave
    return soxr.resample(speech.wave, speech.sample_rate, SAMPLE_RATE).astype(np.float32)


def load_recognizer(spec: str, sentences: Iterable[str] | None = None) -> Listener:
    """`spec`: one of `SPECS`; `sentences`: what may be said, which only `sphinx` takes.

    Raises `InputError`, with the nearest, for another spec, and where a folder holds no such recogniser.
    """
    kind, _, folder = spec.partition(":")
    if spec == "sphinx":
        return _sphinx(sentences)
    if kind == "ctc" and folder:
        return _ctc(Path(folder))
    if kind == "whisper" and folder:
        return _whisper(Path(folder))
    (nearest,) = get_close_matches(spec, SPECS, 1, 0.0)
    raise InputError(f"recognizer {spec!r}: the nearest is {nearest!r} of {', '.join(SPECS)}")


def _sphinx(sentences: Iterable[str] | None) -> Listener:
    said = None if sentences is None else sorted(sentences)
    recognizer = SphinxRecognizer(said)
    if recognizer.unknown:
        print(f"  the recogniser lacks {len(recognizer.unknown)} words: {', '.join(recognizer.unknown[:10])}")

    def hear(waves: Sequence[np.ndarray]) -> list[str]:
        return [recognizer(wave) for wave in track(waves, "hear", len(waves))]

    return Listener("sphinx English" if said is None else f"sphinx {sha256_json(said)[:DIGITS]}", hear)


def _ctc(folder: Path) -> Listener:
    tokenizer = load_speech_tokenizer(folder)
    ears = tokenizer.semantic if isinstance(tokenizer, ExpressiveTokenizer) else tokenizer
    if not isinstance(ears, VqWhisperTokenizer) or not ears.config.ctc_letters:
        raise InputError(f"{folder}: expected a VQ-Whisper tokenizer with a CTC head (ctc_letters), it has none")

    def hear(pieces: Sequence[np.ndarray]) -> list[str]:
        return [ears.transcribe(found.semantic.values) for found in ears.encode_batch(pieces, SAMPLE_RATE)]

    name = f"ctc {sha256_files(files_below(folder), folder)[:DIGITS]}"
    return Listener(name, lambda waves: _in_pieces(waves, ears.config.segment_samples, hear))


def _whisper(folder: Path) -> Listener:
    """Only safetensors are read. What a piece is depends on the folder: 30 s in every published one."""
    from transformers import WhisperForConditionalGeneration, WhisperProcessor  # seconds to import
    from transformers.utils.logging import disable_progress_bar

    if (found := read_json(folder / "config.json").get("model_type")) != "whisper":
        raise InputError(f"{folder / 'config.json'}: model_type is {found!r}, expected 'whisper'")
    disable_progress_bar()
    try:
        model, told = WhisperForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
        processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{folder}: expected a whole Whisper folder: {reason}") from None
    if missing := sorted(told["missing_keys"]):
        raise InputError(f"{folder}: expected a whole Whisper folder: its weights lack {missing[0]}")
    model.to(training_device()).eval()
    english = {"language": "en", "task": "transcribe"} if _is_multilingual(model) else {}

    @torch.inference_mode()
    def hear(pieces: Sequence[np.ndarray]) -> list[str]:
        texts: list[str] = []
        for first in track(range(0, len(pieces), BATCH_SIZE), "hear", -(-len(pieces) // BATCH_SIZE)):
            some = list(pieces[first : first + BATCH_SIZE])
            heard = processor.feature_extractor(
                some, sampling_rate=SAMPLE_RATE, return_tensors="pt", return_attention_mask=True
            ).to(model.device)
            ids = model.generate(**heard, do_sample=False, num_beams=1, **english)
            texts += [text.strip() for text in processor.batch_decode(ids, skip_special_tokens=True)]
        return texts

    name = f"whisper {sha256_files([*folder.glob('*.safetensors'), *folder.glob('*.json')], folder)[:DIGITS]}"
    return Listener(name, lambda waves: _in_pieces(waves, processor.feature_extractor.n_samples, hear))


def _is_multilingual(model: Any) -> bool:
    """Published models of English alone refuse to be told a language."""
    return bool(getattr(model.generation_config, "is_multilingual", False))


def _in_pieces(
    waves: Sequence[np.ndarray], longest: int, hear: Callable[[Sequence[np.ndarray]], list[str]]
) -> list[str]:
    cut = [pieces_of(wave, longest) for wave in waves]
    heard = iter(hear([piece for pieces in cut for piece in pieces]))
    return [" ".join(filter(None, (next(heard) for _ in pieces))) for pieces in cut]


def pieces_of(wave: np.ndarray, longest: int) -> list[np.ndarray]:
    """Pieces of at most `longest` samples, cut where it is quietest in the last sixth of what one may be."""
    pieces = []
    while len(wave) > longest:
        first = longest - max(MOMENT, longest // 6 // MOMENT * MOMENT)
        loudness = np.square(wave[first:longest]).reshape(-1, MOMENT).mean(1)
        at = first + int(loudness.argmin()) * MOMENT + MOMENT // 2
        pieces.append(wave[:at])
        wave = wave[at:]
    return [*pieces, wave]


class SphinxRecognizer:
    """One recogniser, for one utterance after the other."""

    def __init__(self, sentences: Iterable[str] | None = None) -> None:
        """`sentences`: what may be said; without them, pocketsphinx's own English. Words that its dictionary lacks are
        left out and named in `unknown`. Raises `InputError` where pocketsphinx is not installed, or lacks them all."""
        try:
            import pocketsphinx
        except ImportError:
            raise InputError("pocketsphinx is not installed; install the extra: pip install -e '.[judges]'") from None
        model, self.unknown = Path(pocketsphinx.get_model_path()) / "en-us", tuple[str, ...]()
        options: dict[str, Any] = {"samprate": SAMPLE_RATE, "loglevel": "FATAL"}
        if sentences is None:
            self._decoder = pocketsphinx.Decoder(**options)
            return
        said = [plain_words(sentence) for sentence in sentences]
        spoken = _pronunciations(model / "cmudict-en-us.dict", {word for words in said for word in words})
        self.unknown = tuple(sorted({word for words in said for word in words} - set(spoken)))
        if not spoken:
            raise InputError(f"{len(said)} sentences: expected words that pocketsphinx's dictionary has, found none")
        with tempfile.TemporaryDirectory() as folder:
            grammar, dictionary = Path(folder) / "task.lm", Path(folder) / "task.dict"
            grammar.write_text(bigram_arpa([[w for w in words if w in spoken] for words in said]), encoding="utf-8")
            dictionary.write_text("".join(line for lines in spoken.values() for line in lines), encoding="utf-8")
            self._decoder = pocketsphinx.Decoder(lm=str(grammar), dict=str(dictionary), **options)

    def __call__(self, wave: np.ndarray) -> str:
        """`wave` float32 `[samples]` at 16 kHz -> the words heard, perhaps none."""
        if not len(wave):
            return ""
        samples = (np.clip(wave, -1, 1) * 32767).astype("<i2")
        self._decoder.reinit_feat()  # or it takes the noise of one utterance into the next
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""


def _pronunciations(path: Path, words: set[str]) -> dict[str, list[str]]:
    """The dictionary's lines for each of `words` that it has; `word(2)` is another way to say it."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        word = line.split(maxsplit=1)[0].partition("(")[0]
        if word in words:
            found[word].append(line)
    return dict(found)


def bigram_arpa(sentences: Sequence[Sequence[str]]) -> str:
    """A language model in the ARPA format: bigrams with absolute discounting, backed off to unigrams."""
    pairs = Counter(pair for words in sentences for pair in pairwise([BEGIN, *words, END]))
    followers: dict[str, dict[str, int]] = defaultdict(dict)
    for (first, second), count in pairs.items():
        followers[first][second] = count
    unigrams = Counter(word for words in sentences for word in [*words, END])
    total = sum(unigrams.values())
    lines = ["\\data\\", f"ngram 1={len(unigrams) + 1}", f"ngram 2={len(pairs)}", "", "\\1-grams:"]
    backoff = {}
    for word, after in followers.items():
        left = DISCOUNT * len(after) / sum(after.values())
        unseen = 1 - sum(unigrams[other] for other in after) / total
        backoff[word] = math.log10(left / max(unseen, 1e-6))
    lines.append(f"-99 {BEGIN} {backoff.get(BEGIN, 0.0):.5f}")
    for word, count in sorted(unigrams.items()):
        lines.append(f"{math.log10(count / total):.5f} {word} {backoff.get(word, 0.0):.5f}")
    lines += ["", "\\2-grams:"]
    for first, after in sorted(followers.items()):
        known = sum(after.values())
        for second, count in sorted(after.items()):
            lines.append(f"{math.log10((count - DISCOUNT) / known):.5f} {first} {second}")
    return "\n".join([*lines, "", "\\end\\", ""])
