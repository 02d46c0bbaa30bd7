"""An exported model that reads and hears prompts and writes or speaks what comes next.

The exported folder is a stock Hugging Face Llama folder with the vocabulary manifest, and with the speech tokenizer and
the speech decoder in the sub-folders `speech_tokenizer/` and `voice/`; or a folder of Spirit LM as it was published.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.inference import published
from spiritlm.inference.decoding import TokenPrompt, decode, decode_steps
from spiritlm.inference.loading import load_language_model
from spiritlm.inference.pieces import banned_ids, end_ids, require_units, spoken_ids, turn
from spiritlm.inference.request import BATCH_SIZE, Output, Prompt, Request, Sampling, Speech, Task, greedy
from spiritlm.inference.speaking import Manner, Said, as_it_comes, spoken
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.protocol import SpeechDecoder
from spiritlm.tokens.documents import Segment, parse
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer

SHORTEST = 1.0
"""Seconds. A piece of speech with fewer units than this long takes is left out where either modality may come: it is a
slip between two texts more often than something said (Spirit LM leaves out fewer than 25 units, a second)."""


HEARD_TOGETHER = 16
"""Sounds that are encoded in one batch."""
MOST_WORDS = 0.25
"""A transcript needs room for at least so many tokens as share of what is heard."""


class SpeechTextLM:
    """Language model, vocabulary, ears and voice of one exported folder."""

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary: Vocabulary,
        ears: SpeechTokenizer | None,
        voice: SpeechDecoder | None,
    ) -> None:
        """Without `ears` it reads and does not hear, without a `voice` it does not speak. Raises `InputError` where the
        ears have more units than the vocabulary has ids for."""
        if ears is not None:
            require_units(ears, vocabulary)
        self.model, self.vocabulary, self.ears, self.voice = model.eval(), vocabulary, ears, voice

    @classmethod
    def from_pretrained(cls, folder: Path | str) -> SpeechTextLM:
        """`folder`: of `training/export_hf.py`, or `spiritlm_model/NAME` of the published Spirit LM checkpoints, with
        `speech_tokenizer` beside `spiritlm_model`. Raises `InputError` where it is neither."""
        folder = Path(folder)
        if published.is_published(folder):
            parts = published.read_vocabulary(folder), published.read_ears(folder), published.read_voice(folder)
            return cls(load_language_model(folder), *parts)
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: expected the folder of an exported model, but it has no {MANIFEST}")
        ears, voice = folder / "speech_tokenizer", folder / "voice"
        return cls(
            load_language_model(folder),
            Vocabulary.load(folder),
            load_speech_tokenizer(ears) if ears.is_dir() else None,
            load_speech_decoder(voice) if voice.is_dir() else None,
        )

    @cached_property
    def context(self) -> int:
        """Tokens of prompt and answer together, at most."""
        return int(self.model.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]

    # prompts

    def prompt_ids(self, prompt: Prompt, output: Output, task: Task = "continue") -> list[int]:
        """Ids of a prompt as Spirit LM builds it: a marker at each change of modality, and the marker of the
        asked output at the end where the prompt ends in the other modality.

        Raises `InputError` for an empty prompt, an unknown output, and a spoken piece that cannot be heard.
        """
        (asked,) = self._prompts([Request(prompt, output, task=task)])
        return asked

    def _prompts(self, requests: Sequence[Request]) -> list[list[int]]:
        """Of each request; every sound is heard once."""
        for request in requests:
            if isinstance(request.prompt, str) or not all(isinstance(piece, str | Speech) for piece in request.prompt):
                raise InputError("a prompt: expected a list of text (str) and Speech, as Speech.read(path) gives it")
        pieces = {id(piece): piece for request in requests for piece in request.prompt if isinstance(piece, Speech)}
        heard = dict(zip(pieces, self._hear(list(pieces.values())), strict=True))
        return [self._prompt(request, heard) for request in requests]

    def _hear(self, sounds: Sequence[Speech]) -> list[list[int]]:
        """Ids of each, those of about one length together."""
        if sounds and self.ears is None:
            raise InputError("the model cannot hear the prompt: it was exported without a speech tokenizer")
        order = sorted(range(len(sounds)), key=lambda number: len(sounds[number].wave))
        found: dict[int, list[int]] = {}
        for first in range(0, len(order), HEARD_TOGETHER):
            some = order[first : first + HEARD_TOGETHER]
            assert self.ears is not None
            rate = self.ears.sample_rate
            streams = self.ears.encode_batch([sounds[number].at(rate) for number in some], rate)
            found |= {n: spoken_ids(one, self.vocabulary) for n, one in zip(some, streams, strict=True)}
        return [found[number] for number in range(len(sounds))]

    def _prompt(self, request: Request, heard: Mapping[int, list[int]]) -> list[int]:
        if request.output not in get_args(Output):
            raise InputError(f"output {request.output!r}: expected one of {', '.join(get_args(Output))}")
        ids, modality = [self.vocabulary.bos], None
        for piece in request.prompt:
            of = TEXT if isinstance(piece, str) else SPEECH
            if isinstance(piece, str) and not piece.strip():
                raise InputError("the prompt is empty: a written piece has no words")
            ids += turn(modality, of, self.vocabulary, request.task)
            ids += self.vocabulary.encode_text(piece) if isinstance(piece, str) else heard[id(piece)]
            modality = of
        if modality is None:
            raise InputError("the prompt is empty: give text, speech or both")
        after = {"text": TEXT, "speech": SPEECH}.get(request.output, modality)
        return ids + turn(modality, after, self.vocabulary, request.task)

    def token_prompts(self, requests: Sequence[Request]) -> list[TokenPrompt]:
        """Raises `InputError` as `prompt_ids` does, and where prompt and new tokens do not fit the model's context."""
        asked = []
        for request, ids in zip(requests, self._prompts(requests), strict=True):
            if len(ids) + (new := request.sampling.max_new_tokens) > self.context:
                raise InputError(
                    f"the prompt has {len(ids)} tokens and {new} new ones are asked for: together at most "
                    f"{self.context} fit"
                )
            asked.append(self._token_prompt(request, ids, request.sampling))
        return asked

    def _token_prompt(self, request: Request, ids: Sequence[int], sampling: Sampling) -> TokenPrompt:
        wanted = request.output, request.task, self.vocabulary
        return TokenPrompt(np.array(ids), sampling, end_ids(*wanted), banned_ids(*wanted))

    # answers

    def generate(self, prompt: Prompt, output: Output = "any", sampling: Sampling | None = None) -> list[Segment]:
        """What the model says next, as segments of text and speech.

        Raises `InputError` where prompt and `max_new_tokens` do not fit the model's context.
        """
        ((_, segments),) = self.generate_many([Request(prompt, output, sampling or Sampling())])
        return segments

    def generate_many(
        self, requests: Sequence[Request], batch_size: int = BATCH_SIZE
    ) -> Iterator[tuple[int, list[Segment]]]:
        """Answers with their place among `requests`, as they end. `batch_size`: requests that are decoded together; it
        changes how fast, not what. All prompts are made before the first is answered, so that errors come first."""
        return self._answers(requests, self.token_prompts(requests), batch_size)

    def _answers(
        self, requests: Sequence[Request], asked: Sequence[TokenPrompt], batch_size: int
    ) -> Iterator[tuple[int, list[Segment]]]:
        for number, ids in decode(self.model, asked, batch_size):
            segments = parse(ids, self.vocabulary, asked[number].ids)
            either = requests[number].output == "any"
            yield number, [s for s in segments if s.modality == TEXT or len(s.units) >= either * self.shortest]

    @property
    def shortest(self) -> int:
        """Units of a piece of speech that is kept where either modality may come; see `SHORTEST`."""
        return round(SHORTEST * (self.ears.rate if self.ears is not None else 25.0))

    def stream(self, request: Request, manner: Manner | None = None) -> Iterator[Said]:
        """The answer while it is made: words as soon as they are whole, sound as soon as the voice can speak it.

        Raises `InputError` as `generate` and `speak` do, before anything is said.
        """
        (asked,) = self.token_prompts([request])
        manner = manner or Manner()
        if request.output != "text":
            if self.voice is None:
                raise InputError("the model has no voice to speak with: it was exported without one")
            manner.check(self.voice)
        shortest = self.shortest if request.output == "any" else 1
        ids = (chosen.id for chosen in decode_steps(self.model, [asked]) if chosen.id is not None)
        return as_it_comes(ids, asked.ids, self.vocabulary, self.voice, manner, shortest)

    def speak(self, segments: Sequence[Segment], manner: Manner | None = None) -> np.ndarray:
        """The speech segments as one waveform, float32 `[samples]` at the voice's rate. Raises `InputError` where there
        are segments and no voice, or one that lacks the speaker or style or cannot shift pitch."""
        said = [segment for segment in segments if segment.modality == SPEECH and len(segment.units)]
        if self.voice is None:
            if said:
                raise InputError("the model has no voice to speak with: it was exported without one")
            return np.zeros(0, dtype=np.float32)
        return np.concatenate([np.zeros(0, np.float32), *(spoken(self.voice, s, manner or Manner()) for s in said)])

    # what it was trained to do with a recording or a sentence

    def transcribe(self, recordings: Sequence[Speech], batch_size: int = BATCH_SIZE) -> list[str]:
        """What is said in each, by the likeliest tokens. Raises `InputError` for one that does not fit the context."""
        if isinstance(recordings, Speech) or not all(isinstance(recording, Speech) for recording in recordings):
            raise InputError("transcribe: expected a list of Speech, as Speech.read(path) gives it")
        return [self._text(segments) for segments in self._tasks(recordings, "text", "transcribe", batch_size)]

    def read_aloud(self, texts: Sequence[str], batch_size: int = BATCH_SIZE) -> list[list[Segment]]:
        """Each text in units, by the likeliest tokens, for `speak`. Raises `InputError` for one that does not fit."""
        return self._tasks(texts, "speech", "read", batch_size)

    def _tasks(
        self, pieces: Sequence[str] | Sequence[Speech], output: Output, task: Task, batch_size: int
    ) -> list[list[Segment]]:
        """As many new tokens as a pair can have: of text no more than of speech, of speech what is left."""
        requests = [Request([piece], output, task=task) for piece in pieces]
        asked = []
        for number, (request, ids) in enumerate(zip(requests, self._prompts(requests), strict=True), start=1):
            room = self.context - len(ids)
            if room < 1 or (task == "transcribe" and room < MOST_WORDS * len(ids)):
                raise InputError(
                    f"piece {number} of {len(pieces)}: its prompt has {len(ids)} tokens, at most {self.context} fit "
                    "together with the answer: cut it shorter"
                )
            most = min(len(ids), room) if task == "transcribe" else room
            asked.append(self._token_prompt(request, ids, greedy(most)))
        answers = dict(self._answers(requests, asked, batch_size))
        return [answers[number] for number in range(len(requests))]

    @staticmethod
    def _text(segments: Sequence[Segment]) -> str:
        return " ".join(segment.text for segment in segments if segment.modality == TEXT)
