"""Spirit LM's strings: prompts from parts, generated strings back into text and speech, and what may not be generated.

A string holds text, the markers `[Text]` and `[Speech]`, and speech tokens (`streams.tokens`). Published code takes
everything that begins with `[Hu`, `[Pi` or `[St` for speech, `[Stop]` too; `published=True` does the same, the default
takes whole tokens only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np

from spiritlm.errors import InputError
from spiritlm.tokens.layout import SPEECH_MARKER, SPIRIT_TOKENS, TEXT_MARKER, Layout

Modality = Literal["text", "speech"]
Output = Literal["text", "speech", "any"]
Vocoder = Callable[[str], np.ndarray]
"""Speech tokens, as a string -> wave `[samples]`."""
FEWEST_UNITS = 25
"""A generated piece of speech with fewer semantic units (1 s) is not spoken where either modality may come."""

_MARKERS = {"text": TEXT_MARKER, "speech": SPEECH_MARKER}
_PREFIX = "|".join(token[1:3] for token in SPIRIT_TOKENS.values())
_SEMANTIC = SPIRIT_TOKENS["semantic"].partition("{")[0]
_UNIT = rf"\[(?:{_PREFIX})\d+\]"
_MARKER = "|".join(re.escape(marker) for marker in _MARKERS.values())
_PIECES = {
    False: re.compile(rf"(?P<marker>{_MARKER})|{_UNIT}"),
    True: re.compile(rf"(?P<marker>{_MARKER})|\[(?:{_PREFIX})[^\]]*\]?"),
}
_STARTS = {False: re.compile(_UNIT), True: re.compile(rf"\[(?:{_PREFIX})[^\]]+\]")}
_ENDS = {False: re.compile(rf"{_UNIT}\Z"), True: re.compile(rf"\[(?:{_PREFIX})[^\[]+\]\Z")}
_RUN = re.compile(rf"(?:{_UNIT})+")


class Part(NamedTuple):
    """A piece of a prompt or of what was generated."""

    modality: Modality
    content: str
    """Text, or speech tokens."""


def build_prompt(parts: Sequence[Part | tuple[str, str]], output: Output) -> str:
    """A marker at each change of modality, and at the end the marker of the asked output where it is another one.

    Raises `InputError` for an unknown modality or output.
    """
    if output not in get_args(Output):
        raise InputError(f"output {output!r}: expected one of {', '.join(get_args(Output))}")
    prompt, modality = "", None
    for part_modality, content in parts:
        if part_modality not in _MARKERS:
            raise InputError(f"modality {part_modality!r}: expected one of {', '.join(_MARKERS)}")
        prompt += content if part_modality == modality else _MARKERS[part_modality] + content
        modality = part_modality
    return prompt if output in ("any", modality) else prompt + _MARKERS[output]


def parse(string: str, published: bool = False) -> list[Part]:
    """A string as text and speech in turns, markers left out."""
    parts: list[Part] = []
    end = 0
    for match in _PIECES[published].finditer(string):
        _add(parts, "text", string[end : match.start()])
        if not match["marker"]:
            _add(parts, "speech", match[0])
        end = match.end()
    _add(parts, "text", string[end:])
    return parts


def _add(parts: list[Part], modality: Modality, content: str) -> None:
    if parts and parts[-1].modality == modality:
        parts[-1] = Part(modality, parts[-1].content + content)
    elif content:
        parts.append(Part(modality, content))


def starts_with_speech(string: str, published: bool = False) -> bool:
    return bool(_STARTS[published].match(string))


def ends_with_speech(string: str, published: bool = False) -> bool:
    return bool(_ENDS[published].search(string))


def last_speech_start(string: str) -> int | None:
    """Where the last run of speech tokens begins; None where there is none."""
    starts = [match.start() for match in _RUN.finditer(string)]
    return starts[-1] if starts else None


def forbidden_ids(layout: Layout, output: Output, published: bool = False) -> list[tuple[int, int]]:
    """Ids that the asked output forbids, as inclusive ranges in order.

    Text forbids markers and units, speech forbids text and markers. Beyond what is published, rows without a meaning
    and `bos` are never allowed and `eos` always is, so that speech can end before its longest length.
    """
    allowed = np.zeros(layout.size if published else layout.padded_size(), dtype=bool)
    if output in ("text", "any"):
        allowed[: layout.text_size] = True
    if output in ("speech", "any"):
        for block in layout.blocks:
            allowed[block.start : block.end] = True
    allowed[list(layout.markers.values())] = output == "any"
    if not published:
        allowed[layout.bos], allowed[layout.eos] = False, True
    edges = np.flatnonzero(np.diff(np.concatenate([[True], allowed, [True]])))
    return [(int(start), int(end) - 1) for start, end in edges.reshape(-1, 2)]


def decode_output(
    prompt: str, generated: str, output: Output, vocoder: Vocoder, published: bool = False
) -> list[str | np.ndarray]:
    """What was generated after `prompt`, in order: text as it is, speech as waves `[samples]`.

    Where text is asked for all is text, where speech is asked for all is one wave. Otherwise short pieces of speech
    are left out, and speech that goes on from the prompt's is decoded together with it and then cut by the share of
    its units, so that the seam is not heard. Published code counts one unit too many in each string and drops white
    space before the first text.
    """
    if published:
        generated = generated.lstrip()
    if output == "text":
        return [generated]
    parts = parse(generated, published)
    if output == "speech":
        return [vocoder("".join(part.content for part in parts if part.modality == "speech"))]
    goes_on = starts_with_speech(generated, published) and ends_with_speech(prompt, published)
    decoded: list[str | np.ndarray] = []
    for number, part in enumerate(parts):
        if part.modality == "text":
            decoded.append(part.content)
        elif _count(part.content, published) >= FEWEST_UNITS:
            before = prompt[last_speech_start(prompt) :] if goes_on and number == 0 else ""
            decoded.append(_continued(before, part.content, vocoder, published))
    return decoded


def _continued(before: str, speech: str, vocoder: Vocoder, published: bool) -> np.ndarray:
    """The wave of `speech`, spoken after `before`."""
    wave = vocoder(before + speech)
    if not before:
        return wave
    kept = len(wave) * _count(speech, published) // _count(before + speech, published)
    return wave[len(wave) - kept :]


def _count(speech: str, published: bool) -> int:
    """Semantic units; published code counts the pieces between them."""
    return speech.count(_SEMANTIC) + published
