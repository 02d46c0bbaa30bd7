"""Which id means what beyond the text: markers and blocks of units, as published or of one's own making.

    spirit            text, [Text], [Speech], [Hu*], then [Pi*] and [St*] where the tokenizers give them; any sizes
    spirit-base       the same with the published 501 semantic units: with the Llama 2 tokenizer, the published ids
    spirit-expressive spirit-base with 64 pitch and 100 style units
    glm-4-voice       the fixed ids of GLM-4-Voice: <|audio_0|> is 152353

A layout is made from ordered lists, never from the order of keys in a file, and says nothing of text pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from pydantic import PositiveInt, model_validator

from spiritlm.config import Recipe
from spiritlm.errors import InputError

STREAMS = ("semantic", "pitch", "style")
"""Streams of units, in the order of their blocks."""
TEXT_MARKER, SPEECH_MARKER = "[Text]", "[Speech]"
SPIRIT_TOKENS = {"semantic": "[Hu{}]", "pitch": "[Pi{}]", "style": "[St{}]"}
SPIRIT_SIZES = {
    "spirit-base": {"semantic": 501},
    "spirit-expressive": {"semantic": 501, "pitch": 64, "style": 100},
}
GLM_MARKERS = {
    "<|endoftext|>": 151329,
    "[MASK]": 151330,
    "[gMASK]": 151331,
    "[sMASK]": 151332,
    "<sop>": 151333,
    "<eop>": 151334,
    "<|system|>": 151335,
    "<|user|>": 151336,
    "<|assistant|>": 151337,
    "<|observation|>": 151338,
    "<|begin_of_image|>": 151339,
    "<|end_of_image|>": 151340,
    "<|begin_of_video|>": 151341,
    "<|end_of_video|>": 151342,
    "<|begin_of_audio|>": 151343,
    "<|end_of_audio|>": 151344,
    "<|begin_of_transcription|>": 151345,
    "<|end_of_transcription|>": 151346,
}
GLM_TEXT_SIZE, GLM_FIRST_AUDIO, GLM_AUDIO_UNITS, GLM_PAD_TO = 151329, 152353, 16384, 256

LayoutName = Literal["spirit", "spirit-base", "spirit-expressive", "glm-4-voice"]


@dataclass(frozen=True)
class Block:
    """A run of ids for one stream of units; unit `i` is written `token.format(i)`."""

    name: str
    token: str
    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True)
class Wrap:
    """The markers around a span of one modality; empty where there is none."""

    open: str = ""
    close: str = ""


@dataclass(frozen=True)
class Layout:
    """Ids `[0, text_size)` are text pieces; markers and blocks have ids of their own above or among them."""

    text_size: int
    markers: Mapping[str, int]
    blocks: tuple[Block, ...]
    text: Wrap = Wrap(TEXT_MARKER)
    speech: Wrap = Wrap(SPEECH_MARKER)
    bos: int = 1
    """Begins every document."""
    eos: int = 2
    pad_to_multiple: int = 128
    deduplicate: bool = True
    """Whether a run of equal semantic units is one token (Spirit LM) or not (GLM-4-Voice, whose decoder needs the
    time)."""

    def __post_init__(self) -> None:
        """Raises `InputError` where two names share an id or a span's marker is not among the markers."""
        taken = sorted([(id, id + 1, name) for name, id in self.markers.items()] + self._ranges())
        for (_, end, name), (start, _, next_name) in pairwise(taken):
            if start < end:
                raise InputError(f"vocabulary: {name!r} and {next_name!r} share id {start}")
        for marker in (self.text.open, self.text.close, self.speech.open, self.speech.close):
            if marker and marker not in self.markers:
                raise InputError(f"vocabulary: the span marker {marker!r} is not among the markers")

    def _ranges(self) -> list[tuple[int, int, str]]:
        return [(block.start, block.end, block.name) for block in self.blocks]

    @property
    def size(self) -> int:
        """One more than the last id that has a meaning."""
        return max([self.text_size, *(block.end for block in self.blocks), *(id + 1 for id in self.markers.values())])

    def padded_size(self, tensor_parallel: int = 1) -> int:
        """Rows of the embedding: at least `size`, a multiple of `pad_to_multiple` and of `tensor_parallel`.

        The same for every tensor-parallel size that divides `pad_to_multiple`.
        """
        multiple = self.pad_to_multiple
        while multiple % tensor_parallel:
            multiple += self.pad_to_multiple
        return -(-self.size // multiple) * multiple


class BlockRecipe(Recipe):
    name: Literal["semantic", "pitch", "style"]
    token: str
    """How unit `{}` is written, for example `"[Hu{}]"`."""
    size: PositiveInt

    @model_validator(mode="after")
    def _check(self) -> BlockRecipe:
        if self.token.count("{}") != 1:
            raise InputError(f"vocabulary.blocks: token {self.token!r}: expected one {{}} for the number of the unit")
        return self


class LayoutRecipe(Recipe):
    """The part of a recipe that says how ids are laid out."""

    name: LayoutName | Literal["free"] = "spirit"
    tasks: tuple[str, ...] = ()
    """Further markers behind the blocks; `[ASR]` and `[TTS]` mark the answers of pairs (Spirit LM, section 4.1)."""
    markers: tuple[str, ...] = (TEXT_MARKER, SPEECH_MARKER)
    """Free layouts only: markers behind the text, in order."""
    blocks: tuple[BlockRecipe, ...] = ()
    """Free layouts only: blocks behind the markers, in order."""
    text: tuple[str, str] = (TEXT_MARKER, "")
    """Free layouts only: the markers before and after a span of text; "" for none."""
    speech: tuple[str, str] = (SPEECH_MARKER, "")
    """Free layouts only."""
    deduplicate: bool = True
    """Free layouts only: whether a run of equal semantic units is one token."""
    pad_to_multiple: PositiveInt = 128

    def layout(self, text_size: int, bos: int, eos: int, units: Mapping[str, int]) -> Layout:
        """`units`: how many units each stream of the tokenizers has. Raises `InputError` where a block is too small."""
        if self.name == "free":
            blocks = [(block.name, block.token, block.size) for block in self.blocks]
            spans = Wrap(*self.text), Wrap(*self.speech)
            made = _stacked(text_size, self.markers, blocks, self.tasks, spans, bos, eos, self.pad_to_multiple)
            made = replace(made, deduplicate=self.deduplicate)
        elif self.name == "glm-4-voice":
            if text_size > GLM_TEXT_SIZE or self.tasks:
                pieces = f"the text tokenizer has {text_size} pieces"
                found = f"tasks = {list(self.tasks)}" if self.tasks else pieces
                raise InputError(f"layout {self.name}: {found}; its ids are fixed: {GLM_TEXT_SIZE} of text, no tasks")
            made = glm_4_voice()
        else:
            made = spirit(text_size, SPIRIT_SIZES.get(self.name, units), bos, eos, self.tasks, self.pad_to_multiple)
        sizes = {block.name: block.size for block in made.blocks}
        for stream, size in units.items():
            if size > sizes.get(stream, 0):
                raise InputError(f"layout {self.name}: {size} {stream} units do not fit in {sizes.get(stream, 0)} ids")
        return made


def spirit(
    text_size: int,
    units: Mapping[str, int],
    bos: int = 1,
    eos: int = 2,
    tasks: Sequence[str] = (),
    pad_to_multiple: int = 128,
) -> Layout:
    """Spirit LM's order (released tokenizer): text, markers, semantic, pitch and style units; then `tasks`."""
    blocks = [(stream, SPIRIT_TOKENS[stream], units[stream]) for stream in STREAMS if stream in units]
    spans = Wrap(TEXT_MARKER), Wrap(SPEECH_MARKER)
    return _stacked(text_size, (TEXT_MARKER, SPEECH_MARKER), blocks, tasks, spans, bos, eos, pad_to_multiple)


def glm_4_voice() -> Layout:
    """The released ids; a span of speech stands between `<|begin_of_audio|>` and `<|end_of_audio|>`."""
    return Layout(
        GLM_TEXT_SIZE,
        GLM_MARKERS,
        (Block("semantic", "<|audio_{}|>", GLM_FIRST_AUDIO, GLM_AUDIO_UNITS),),
        Wrap(),
        Wrap("<|begin_of_audio|>", "<|end_of_audio|>"),
        bos=GLM_MARKERS["<sop>"],
        eos=GLM_MARKERS["<|endoftext|>"],
        pad_to_multiple=GLM_PAD_TO,
        deduplicate=False,
    )


def _stacked(
    text_size: int,
    markers: Sequence[str],
    blocks: Sequence[tuple[str, str, int]],
    tasks: Sequence[str],
    spans: tuple[Wrap, Wrap],
    bos: int,
    eos: int,
    pad_to_multiple: int,
) -> Layout:
    """Ids handed out in order: text, markers, blocks, tasks. Raises `InputError` where a name comes twice."""
    names = [*markers, *(name for name, _, _ in blocks), *tasks]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise InputError(f"layout: {name!r} is named twice")
    ids = {marker: text_size + number for number, marker in enumerate(markers)}
    end, made = text_size + len(markers), []
    for name, token, size in blocks:
        made.append(Block(name, token, end, size))
        end += size
    ids |= {task: end + number for number, task in enumerate(tasks)}
    return Layout(text_size, ids, tuple(made), *spans, bos, eos, pad_to_multiple)
