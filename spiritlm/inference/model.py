"""An exported model that reads and hears a prompt and writes or speaks what comes next.

The exported folder is a stock Hugging Face Llama folder with the vocabulary manifest, and with the speech
tokenizer and the speech decoder in the sub-folders `speech_tokenizer/` and `voice/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError

from spiritlm.errors import InputError
from spiritlm.inference.pieces import require_units, spoken_ids, turn
from spiritlm.run.device import training_device
from spiritlm.synthesis.loading import load_speech_decoder
from spiritlm.synthesis.protocol import SpeechDecoder, as_given
from spiritlm.synthesis.unit_decoder import shift_pitch
from spiritlm.tokens.documents import Segment, parse
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.vocabulary import MANIFEST, Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer

Output = Literal["text", "speech", "any"]


@dataclass(frozen=True)
class Speech:
    """A spoken piece of a prompt."""

    wave: np.ndarray
    """float32 `[samples]` in [-1, 1], mono."""
    sample_rate: int


Prompt = Sequence[str | Speech]
"""Pieces of text and speech in the order they are read and heard."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen (defaults: Spirit LM, appendix D)."""

    max_new_tokens: int = 200
    temperature: float = 0.8
    """0 always takes the likeliest token."""
    top_p: float = 0.95
    seed: int = 0


def load_language_model(folder: Path) -> torch.nn.Module:
    """The transformers model of an exported folder, on this process's GPU where there is one, ready to score or
    generate."""
    from transformers import AutoModelForCausalLM  # seconds to import
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{folder}: not a whole exported model: {str(error).splitlines()[0]}") from None
    return model.to(training_device()).eval()


class SpeechTextLM:
    """Language model, vocabulary, ears and voice of one exported folder."""

    def __init__(
        self, model: torch.nn.Module, vocabulary: Vocabulary, ears: SpeechTokenizer, voice: SpeechDecoder | None
    ) -> None:
        """Without a `voice` it hears, reads and writes. Raises `InputError` where the ears have more units than the
        vocabulary has ids for."""
        require_units(ears, vocabulary)
        self.model, self.vocabulary, self.ears, self.voice = model.eval(), vocabulary, ears, voice

    @classmethod
    def from_pretrained(cls, folder: Path) -> SpeechTextLM:
        """Raises `InputError` where `folder` is no exported model of this project."""
        if not (folder / MANIFEST).is_file():
            raise InputError(f"{folder}: expected the folder of an exported model, but it has no {MANIFEST}")
        return cls(
            load_language_model(folder),
            Vocabulary.load(folder),
            load_speech_tokenizer(folder / "speech_tokenizer"),
            load_speech_decoder(folder / "voice") if (folder / "voice").is_dir() else None,
        )

    def prompt_ids(self, prompt: Prompt, output: Output) -> list[int]:
        """Ids of a prompt as Spirit LM builds it: a marker at each change of modality, and the marker of the
        asked output at the end where the prompt ends in the other modality.

        Raises `InputError` for an empty prompt and for an unknown output.
        """
        if output not in get_args(Output):
            raise InputError(f"output {output!r}: expected one of {', '.join(get_args(Output))}")
        ids, modality = [self.vocabulary.bos], None
        for piece in prompt:
            piece_modality = TEXT if isinstance(piece, str) else SPEECH
            ids += turn(modality, piece_modality, self.vocabulary) + self._piece_ids(piece)
            modality = piece_modality
        if modality is None:
            raise InputError("the prompt is empty: give text, speech or both")
        return ids + turn(modality, {"text": TEXT, "speech": SPEECH, "any": modality}[output], self.vocabulary)

    def _piece_ids(self, piece: str | Speech) -> list[int]:
        if isinstance(piece, str):
            if not piece.strip():
                raise InputError("the prompt is empty: a written piece has no words")
            return self.vocabulary.encode_text(piece)
        return spoken_ids(self.ears.encode(piece.wave, piece.sample_rate), self.vocabulary)

    @torch.inference_mode()
    def generate(self, prompt: Prompt, output: Output, sampling: Sampling) -> list[Segment]:
        """What the model says next, as segments of text and speech.

        Raises `InputError` where prompt and `max_new_tokens` do not fit the model's context.
        """
        ids = self.prompt_ids(prompt, output)
        context = int(self.model.config.max_position_embeddings)  # type: ignore[union-attr, arg-type]
        if len(ids) + sampling.max_new_tokens > context:
            raise InputError(
                f"the prompt has {len(ids)} tokens and {sampling.max_new_tokens} new ones are asked for: "
                f"together at most {context} fit"
            )
        torch.manual_seed(sampling.seed)
        choice = (
            {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
            if sampling.temperature > 0
            else {"do_sample": False}
        )
        input_ids = torch.tensor([ids], device=self.model.device)  # type: ignore[arg-type]
        generated = self.model.generate(  # type: ignore[operator]
            input_ids,
            attention_mask=torch.ones_like(input_ids),
            suppress_tokens=self.banned_ids(output),
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=self.end_ids(output),
            pad_token_id=self.vocabulary.eos,
            **choice,
        )
        return parse(generated[0, len(ids) :].cpu().numpy(), self.vocabulary, ids)

    def end_ids(self, output: Output) -> list[int]:
        """Ids that end a generation: `</s>`, and what closes a span where one modality is asked for."""
        closing = {"text": self.vocabulary.closing(TEXT), "speech": self.vocabulary.closing(SPEECH), "any": []}
        return [self.vocabulary.eos, *closing[output]]

    def banned_ids(self, output: Output) -> list[int]:
        """Ids that the asked output forbids: padding rows and `<s>` always; markers and the other modality where
        one modality is asked for. `</s>` stays allowed, so that speech can end (Spirit LM bans it there)."""
        known = np.arange(self.vocabulary.padded_size)
        allowed = np.isin(known, self.end_ids(output))
        if output in ("text", "any"):
            allowed |= self.vocabulary.is_text(known)
        if output in ("speech", "any"):
            allowed |= self.vocabulary.is_speech(known)
        if output == "any":
            for modality in (TEXT, SPEECH):
                allowed |= np.isin(known, self.vocabulary.opening(modality) + self.vocabulary.closing(modality))
        return np.flatnonzero(~allowed).tolist()

    def speak(
        self,
        segments: Sequence[Segment],
        speaker: str | None = None,
        style: str | None = None,
        pitch_shift: float = 0.0,
    ) -> np.ndarray:
        """The speech segments as one waveform, float32 `[samples]` at the voice's rate. `style`: instead of what the
        model says; `pitch_shift`: semitones. Raises `InputError` where there are segments and no voice, or one that
        lacks the speaker or style or cannot shift pitch."""
        spoken, voice = [s for s in segments if s.modality == SPEECH and len(s.units)], self.voice
        if voice is None:
            if spoken:
                raise InputError("the model has no voice to speak with: it was exported without one")
            return np.zeros(0, dtype=np.float32)
        waves = [np.zeros(0, dtype=np.float32)]
        for segment in spoken:
            units, _, prosody = as_given(voice, segment.units, segment.prosody)
            waves.append(voice.decode(units, speaker, style, shift_pitch(voice, prosody, pitch_shift)))
        return np.concatenate(waves)
