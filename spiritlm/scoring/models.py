"""Models of this project as `SpeechTextModel`: an exported folder, and a checkpoint of a run.

What is asked in text and sound becomes tokens as in training: `<s>`, the marker of the first modality, pieces, and
markers at each change of modality. Markers are read and never scored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from spiritlm.errors import InputError
from spiritlm.inference import published
from spiritlm.inference.decoding import TokenPrompt, decode
from spiritlm.inference.loading import load_language_model
from spiritlm.inference.pieces import banned_ids, end_ids, turn
from spiritlm.inference.request import Speech, Task
from spiritlm.inference.speaking import Manner, spoken
from spiritlm.run.files import files_below, sha256_files
from spiritlm.run.progress import progress
from spiritlm.scoring.hearing import Hearing
from spiritlm.scoring.loglikelihood import TokenScorer
from spiritlm.scoring.protocol import Answer, Question, Request, Score, Segment, Sound
from spiritlm.scoring.rows import TokenRequest
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.protocol import SpeechDecoder
from spiritlm.tokens.documents import parse
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary
from spiritlm.units.expressive import ExpressiveTokenizer
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.pitch import PitchTokenizer
from spiritlm.units.protocol import SpeechTokenizer

OUTPUTS = {"text": TEXT, "speech": SPEECH}
CHECKPOINTS = "checkpoints"
"""In the folder of a run."""


class ExportedModel:
    """A language model over text and units, with the ears that its units come from."""

    def __init__(
        self,
        model: torch.nn.Module,
        vocabulary: Vocabulary,
        ears: SpeechTokenizer | None,
        identity: dict[str, str],
        voice: SpeechDecoder | None = None,
    ) -> None:
        """Without `ears` it is asked in text, without a `voice` it answers in text. `identity`: see
        `SpeechTextModel`."""
        self.model, self.vocabulary, self.identity, self.voice = model, vocabulary, identity, voice
        self.hearing = Hearing(ears, vocabulary)
        known = np.arange(vocabulary.padded_size)
        modality = np.select([vocabulary.is_text(known), vocabulary.is_speech(known)], [TEXT, SPEECH], -1)
        self.scorer = TokenScorer(model, modality)

    @classmethod
    def from_pretrained(cls, folder: Path) -> ExportedModel:
        """`folder`: of `training/export_hf.py`, or `spiritlm_model/NAME` of the published Spirit LM checkpoints. Raises
        `InputError` where it is neither."""
        if published.is_published(folder):
            return cls._published(folder)
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: expected the folder of an exported model, but it has no {MANIFEST}")
        ears, voice = folder / "speech_tokenizer", folder / "voice"
        return cls._of(folder, ears if ears.is_dir() else None, voice if voice.is_dir() else None)

    @classmethod
    def from_checkpoint(cls, folder: Path, speech_tokenizer: Path | None = None) -> ExportedModel:
        """The newest checkpoint of a run's folder, or the one that `folder` is. `speech_tokenizer`: the folder of what
        the run's units come from. Its scores and identity are those of the exported folder in float32.

        Raises `InputError` where it is neither, or the checkpoint is damaged.
        """
        from spiritlm.engine.export import export_checkpoint  # and with it the whole engine
        from spiritlm.engine.start import is_run

        run, step = folder, None
        if folder.parent.name == CHECKPOINTS and folder.name.removeprefix("step-").isdigit():
            run, step = folder.parents[1], int(folder.name.removeprefix("step-"))
        if not is_run(run):
            raise InputError(f"{folder}: expected the folder of a run that trained a model, or one of its checkpoints")
        with TemporaryDirectory() as exported:
            export_checkpoint(run, Path(exported), step)
            return cls._of(Path(exported), speech_tokenizer)

    @classmethod
    def _published(cls, folder: Path) -> ExportedModel:
        vocabulary, ears, voice = (
            published.read_vocabulary(folder),
            published.read_ears(folder),
            published.read_voice(folder),
        )
        parts = published.parts_of(folder)
        identity = {
            "weights": sha256_files(
                [*folder.glob("pytorch_model*.bin"), *folder.glob("*.safetensors"), folder / "config.json"], folder
            ),
            "vocabulary": vocabulary.hash,
            "speech_tokenizer": sha256_files(files_below(parts), parts),
        }
        if isinstance(ears, ExpressiveTokenizer) and isinstance(ears.pitch, PitchTokenizer):
            identity["tracker"] = ears.pitch.config.tracker
        return cls(load_language_model(folder), vocabulary, ears, identity, voice)

    @classmethod
    def _of(cls, folder: Path, ears: Path | None, voice: Path | None = None) -> ExportedModel:
        vocabulary = Vocabulary.load(folder)
        identity = {
            "weights": sha256_files([*folder.glob("*.safetensors"), *folder.glob("config.json")], folder),
            "vocabulary": vocabulary.hash,
            "speech_tokenizer": sha256_files(files_below(ears), ears) if ears else "none",
        }
        if voice:
            identity["voice"] = sha256_files(files_below(voice), voice)
        return cls(
            load_language_model(folder),
            vocabulary,
            load_speech_tokenizer(ears) if ears else None,
            identity,
            load_speech_decoder(voice) if voice else None,
        )

    def tokens(self, request: Request) -> TokenRequest:
        """What the model reads and what is scored of it. Raises `InputError` where a sound cannot be heard, or there is
        nothing to score."""
        prompt, modality = self._read(request.prompt)
        continuation: list[int] = []
        scored: list[bool] = []
        for number, piece in enumerate(request.continuation):
            markers, ids = turn(modality, _modality(piece), self.vocabulary), self._ids(piece)
            modality = _modality(piece)
            if number == 0:
                prompt, markers = prompt + markers, []
            continuation += markers + ids
            scored += [False] * len(markers) + [True] * len(ids)
        if not any(scored):
            raise InputError(f"{_name(request)}: nothing to score: the continuation has no tokens")
        whole = None if all(scored) else np.array(scored)
        return TokenRequest(np.array(prompt, np.int64), np.array(continuation, np.int64), whole)

    def tokens_of(self, requests: Sequence[Request]) -> list[TokenRequest]:
        """`tokens` of each, all sounds heard together."""
        self.hearing.hear(_sounds(piece for request in requests for piece in (*request.prompt, *request.continuation)))
        return [self.tokens(request) for request in requests]

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        """See `SpeechTextModel`. Raises `InputError`, with the name of the item, where one is longer than the context
        of the model or cannot be made tokens of."""
        made = self.tokens_of(requests)
        for request, tokens in zip(requests, made, strict=True):
            self._require_room(_name(request), len(tokens.prompt) + len(tokens.continuation))
        return self.scorer.score(made)

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        """See `SpeechTextModel`. Raises `InputError` as `loglikelihood` does, and where speech is asked for
        and the model has no voice."""
        self.hearing.hear(_sounds(piece for question in questions for piece in question.prompt))
        prompts = [self._token_prompt(question) for question in questions]
        answers: dict[int, Answer] = {}
        with progress("answer", len(prompts)) as bar:
            for number, ids in decode(self.model, prompts):
                answers[number] = self._answer(questions[number], ids, prompts[number].ids)
                bar.advance(1)
        return [answers[number] for number in range(len(questions))]

    def _token_prompt(self, question: Question) -> TokenPrompt:
        if question.output == "speech" and self.voice is None:
            raise InputError(f"{_name(question)}: the model has no voice to speak with: it was exported without one")
        ids, modality = self._read(question.prompt, question.task)
        ids += turn(modality, OUTPUTS[question.output], self.vocabulary, question.task)
        self._require_room(_name(question), len(ids) + question.sampling.max_new_tokens)
        asked = question.output, question.task, self.vocabulary
        return TokenPrompt(np.array(ids), question.sampling, end_ids(*asked), banned_ids(*asked))

    def _answer(self, question: Question, ids: np.ndarray, prompt: np.ndarray) -> Answer:
        if question.output == "text":
            return self.vocabulary.decode_text(ids.tolist())
        assert self.voice is not None
        said = parse(ids, self.vocabulary, prompt)
        waves = [spoken(self.voice, segment, Manner()) for segment in said if len(segment.units)]
        return Speech(np.concatenate([np.zeros(0, np.float32), *waves]), self.voice.sample_rate)

    def _read(self, pieces: Sequence[Segment], task: Task = "continue") -> tuple[list[int], int | None]:
        """Ids from `<s>` on, and the modality of the last piece."""
        ids, modality = [self.vocabulary.bos], None
        for piece in pieces:
            ids += turn(modality, _modality(piece), self.vocabulary, task) + self._ids(piece)
            modality = _modality(piece)
        return ids, modality

    def _ids(self, piece: Segment) -> list[int]:
        return self.vocabulary.encode_text(piece) if isinstance(piece, str) else self.hearing.ids(piece)

    def _require_room(self, name: str, tokens: int) -> None:
        context = self.scorer.model.context
        if context is not None and tokens > context:
            raise InputError(f"{name}: {tokens} tokens, at most the {context} of the model's context fit")


def _modality(piece: Segment) -> int:
    return TEXT if isinstance(piece, str) else SPEECH


def _sounds(pieces: Iterator[Segment]) -> Iterator[Sound]:
    return (piece for piece in pieces if isinstance(piece, Sound))


def _name(asked: Request | Question) -> str:
    """As errors call it: by its last sound, or what is written."""
    pieces = (*asked.prompt, *(asked.continuation if isinstance(asked, Request) else ()))
    if sounds := list(_sounds(iter(pieces))):
        return sounds[-1].name
    return repr(" ".join(str(piece) for piece in pieces).strip()[:60])
