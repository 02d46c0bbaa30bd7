"""GLM-4-Voice's chat protocol: prompts of a conversation, replies taken apart, calls of the speech decoder.

A prompt is text with special tokens by name; user audio stands in it as `<|audio_i|>`. A reply is a list of ids, text
and audio mixed (13 of text, 26 of audio, in turns), and ends with `<|user|>`. What the released demo gets wrong is
kept in functions called `published_...` and behind `published=True`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.tokens.layout import GLM_AUDIO_UNITS, GLM_FIRST_AUDIO, GLM_MARKERS

SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"
BEGIN_OF_AUDIO, END_OF_AUDIO, AUDIO = "<|begin_of_audio|>", "<|end_of_audio|>", "<|audio_{}|>"
_HOW = "Do it step by step. First, think about the instruction and respond in a interleaved manner, with 13 text token "
SPEECH_INSTRUCTION = f"User will provide you with a speech instruction. {_HOW}followed by 26 audio tokens. "
"""The space at its end is published; the model was trained with it."""
TEXT_INSTRUCTION = f"User will provide you with a text instruction. {_HOW}followed by 26 audio tokens."
REPLY = "streaming_transcription\n"
SAMPLING = {"temperature": 0.2, "top_p": 0.8, "max_new_tokens": 2000}
"""The demo's."""
END_OF_REPLY = GLM_MARKERS[USER]
STOP_IDS = tuple(GLM_MARKERS[name] for name in ("<|endoftext|>", USER, "<|observation|>"))
TEXT_RUN, AUDIO_RUN = 13, 26
BLOCK_SIZES = (25, 50, 100, 150, 200)
"""Audio tokens of the first, second, ... call of the decoder; the last size goes on."""
SEGMENT = 30 * 16_000
"""Samples at 16 kHz that are tokenized apart."""
HOP, FRAMES_PER_TOKEN = 160, 8
"""Samples of a mel frame, mel frames of a token: 12.5 tokens per second."""

User = str | Sequence[int]
"""What the user gives: text, or the units of speech."""


def prompt(user: User, history: str = "", published: bool = False) -> str:
    """The prompt of the next turn; `history` is the last prompt and its reply without `<|user|>`.

    The system line stands once, at the beginning, and is that of the first turn's modality. Raises `InputError` for
    speech without units and, unless `published`, for text that holds special tokens and could forge a turn.
    """
    if isinstance(user, str):
        instruction, content = TEXT_INSTRUCTION, user if published else _plain(user)
    else:
        instruction, content = SPEECH_INSTRUCTION, speech(user)
    system = "" if SYSTEM in history else f"{SYSTEM}\n{instruction}"
    return f"{history}{system}{USER}\n{content}{ASSISTANT}{REPLY}"


def speech(units: Sequence[int]) -> str:
    """The units of the user's speech between their markers."""
    if not len(units):
        raise InputError("the user's speech has no units: the recording is empty")
    for unit in units:
        if not 0 <= unit < GLM_AUDIO_UNITS:
            raise InputError(f"audio unit {unit}: expected 0 to {GLM_AUDIO_UNITS - 1}")
    return BEGIN_OF_AUDIO + "".join(AUDIO.format(unit) for unit in units) + END_OF_AUDIO


def _plain(text: str) -> str:
    for name in (*GLM_MARKERS, AUDIO.partition("{")[0]):
        if name in text:
            raise InputError(f"the user's text holds the special token {name!r}")
    return text


class Reply(NamedTuple):
    """A reply taken apart."""

    text: list[int]
    """Ids, special tokens too."""
    audio: list[int]
    """Units: ids minus the first audio id."""
    ended: bool
    """Whether the end token came; what follows it is dropped."""


def split_reply(ids: Iterable[int], first_audio: int = GLM_FIRST_AUDIO, end: int = END_OF_REPLY) -> Reply:
    text: list[int] = []
    audio: list[int] = []
    for id in ids:
        if id == end:
            return Reply(text, audio, True)
        if id >= first_audio:
            audio.append(id - first_audio)
        else:
            text.append(id)
    return Reply(text, audio, False)


class DecoderCall(NamedTuple):
    """One call of the speech decoder."""

    units: list[int]
    """To be spoken now."""
    before: int
    """How many units were spoken in earlier calls: the decoder hears them as its prompt."""
    last: bool
    """The decoder must give all that it holds back."""


def decoder_calls(
    ids: Iterable[int],
    first_audio: int = GLM_FIRST_AUDIO,
    end: int = END_OF_REPLY,
    block_sizes: Sequence[int] = BLOCK_SIZES,
) -> Iterator[DecoderCall]:
    """Calls as a reply streams in: as soon as a block is full, and a last one (perhaps without units) at its end.

    The end is the end token or the end of `ids`; a reply without audio makes no call.
    """
    buffer: list[int] = []
    before = calls = 0
    for id in ids:
        if id == end:
            break
        if id >= first_audio:
            buffer.append(id - first_audio)
        if len(buffer) == block_sizes[min(calls, len(block_sizes) - 1)]:
            yield DecoderCall(buffer, before, False)
            before, calls, buffer = before + len(buffer), calls + 1, []
    if before or buffer:
        yield DecoderCall(buffer, before, True)


def published_decoder_calls(
    ids: Iterable[int],
    first_audio: int = GLM_FIRST_AUDIO,
    end: int = END_OF_REPLY,
    block_sizes: Sequence[int] = BLOCK_SIZES,
) -> list[DecoderCall]:
    """Calls of the released demo: a full block waits for the next token, and without an end token the tail is lost.

    Raises `InputError` where nothing is spoken.
    """
    buffer: list[int] = []
    made: list[DecoderCall] = []
    before = 0
    for id in ids:
        block = block_sizes[min(len(made), len(block_sizes) - 1)]
        if buffer and (id == end or len(buffer) >= block):
            made.append(DecoderCall(buffer, before, id == end))
            before, buffer = before + len(buffer), []
        if id == end:
            break
        if id >= first_audio:
            buffer.append(id - first_audio)
    if not made:
        raise InputError("the reply has no speech to decode")
    return made


def runs(text: int, audio: int) -> list[tuple[str, int]]:
    """How a reply of so many text and audio tokens is laid out: `("text" or "audio", length)` in order.

    13 of text and 26 of audio in turns; behind the last text stands all the audio that is left, and vice versa.
    """
    made: list[tuple[str, int]] = []
    while text or audio:
        of_text = min(text, TEXT_RUN) if audio else text
        text -= of_text
        of_audio = min(audio, AUDIO_RUN) if text else audio
        audio -= of_audio
        made += [run for run in (("text", of_text), ("audio", of_audio)) if run[1]]
    return made


class TokenCount(NamedTuple):
    """Lengths on the way from samples to tokens of one segment."""

    samples: int
    mel_frames: int
    """With padding up to whole tokens."""
    heard_frames: int
    """Of them, those with sound."""
    tokens: int


def token_counts(samples: int) -> list[TokenCount]:
    """Lengths for each segment of a recording at 16 kHz. Raises `InputError` for an empty one."""
    if samples < 1:
        raise InputError("the recording is empty: it has no tokens")
    counts = []
    for start in range(0, samples, SEGMENT):
        length = min(SEGMENT, samples - start)
        heard = -(-length // HOP)
        tokens = -(-heard // FRAMES_PER_TOKEN)
        counts.append(TokenCount(length, tokens * FRAMES_PER_TOKEN, heard, tokens))
    return counts
