"""Spirit LM's tokens and prompts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from conformance.registry import Case, kind

from spiritlm.tokens import prompt, streams
from spiritlm.tokens.layout import SPIRIT_SIZES, spirit

LLAMA_TEXT = 32_000
STREAM = {"hubert": "semantic", "pitch": "pitch", "style": "style"}
"""Golden names of streams, and the project's."""
OUTPUT: dict[str, prompt.Output] = {"TEXT": "text", "SPEECH": "speech", "ARBITRARY": "any"}


@kind("spirit_tokens")
def spirit_tokens(case: Case) -> None:
    config, cases = case.read("config.json"), case.read("cases.json")
    for number, item in enumerate(cases["units_to_string"]):
        what, units = f"units_to_string {item.get('name', number)}", item["units"]
        case.report.equal(f"{what} base", _string({"hubert": units["hubert"]}, config), item["base"])
        case.report.equal(f"{what} expressive", _string(units, config), item["expressive"])
    for number, item in enumerate(cases["units_to_string_options"]):
        string = _string(item["units"], {**config, **item["options"]})
        case.report.equal(f"units_to_string_options {number}", string, item["string"])
    for number, item in enumerate(cases["string_to_units"]):
        _string_to_units(case, f"string_to_units {number}", item)
    for item in cases["chunked"]:
        _chunked(case, config, item)
    _stereo(case, cases["stereo"])


def _string(units: Mapping[str, Sequence[int]], options: Mapping[str, Any]) -> str:
    chunk = {STREAM[name]: np.array(values, dtype=np.int64) for name, values in units.items()}
    rates = {stream: options[f"{name}_rate"] for name, stream in STREAM.items()}
    defaults = {name: stream in streams.DEDUPLICATED for name, stream in STREAM.items()}
    deduplicated = [STREAM[name] for name, default in defaults.items() if options.get(f"{name}_dedup", default)]
    return streams.tokens(streams.published_merge([chunk], rates, deduplicated))


def _string_to_units(case: Case, what: str, item: Mapping[str, Any]) -> None:
    expected = item["units"]

    def found() -> dict[str, str]:
        style = expected.get("style", "").split() if item["used_random_style"] else []
        repeat = item["duplicate_hubert_for_multiple_pitch"]
        return streams.published_units(item["string"], repeat, *style[:1])

    if "error" in expected:
        case.report.refused(what, found)
    else:
        case.report.equal(what, found(), {STREAM[name]: values for name, values in expected.items()})


def _chunked(case: Case, config: Mapping[str, Any], item: Mapping[str, Any]) -> None:
    what = f"chunked {item['samples']}"
    lengths = streams.chunk_lengths(item["samples"], config["max_wav_chunk"], config["min_wav_chunk"])
    units = {name: item[name] for name in STREAM if name in item}
    for name in STREAM:
        if f"{name}_calls_samples" in item:
            case.report.equal(f"{what} {name} calls", lengths, item[f"{name}_calls_samples"])
    case.report.equal(f"{what} string", _string(units, config), item["string"])


def _stereo(case: Case, item: Mapping[str, Any]) -> None:
    """The calls are "default", "channel_id=1" and "shape (1,3200)"; the channels hold zeros and ones."""
    for call, (shape, mean) in zip(item["calls"], item["model_saw_shape_and_mean"], strict=True):
        given = re.fullmatch(r"shape \((\d+), ?(\d+)\)", call)
        channel = re.fullmatch(r"channel_id=(\d+)", call)
        wave = np.zeros([int(n) for n in given.groups()]) if given else np.repeat([[0.0], [1.0]], shape[-1], axis=1)
        found = streams.mono(wave, int(channel[1]) if channel else None)
        case.report.equal(f"stereo {call}", [list(found.shape), float(found.mean())], [shape, mean])


@kind("spirit_prompt")
def spirit_prompt(case: Case) -> None:
    for number, item in enumerate(case.read("build_prompt.json")):
        found = prompt.build_prompt([tuple(part) for part in item["inputs"]], OUTPUT[item["output_modality"]])
        case.report.equal(f"build_prompt {number}", found, item["prompt"])
    for number, item in enumerate(case.read("parse.json")):
        parts = [[part.content, part.modality[0]] for part in prompt.parse(item["content"], published=True)]
        case.report.equal(f"parse {number}", parts, item["splits"])
    for number, item in enumerate(case.read("ends.json")):
        string = item["s"]
        ends, starts = prompt.ends_with_speech(string, True), prompt.starts_with_speech(string, True)
        case.report.equal(f"ends {number}: ends", ends, item["ends_with_speech"])
        case.report.equal(f"ends {number}: starts", starts, item["starts_with_speech"])
        case.report.equal(f"ends {number}: last", prompt.last_speech_start(string), item["last_speech_start"])
    for name, item in case.read("forbidden.json").items():
        _forbidden(case, name, item)
    for number, item in enumerate(case.read("decode_output.json")):
        _decode_output(case, f"decode_output {number}", item)


def _forbidden(case: Case, name: str, item: Mapping[str, Any]) -> None:
    model, output = name.split("/")
    layout = spirit(LLAMA_TEXT, SPIRIT_SIZES[f"spirit-{model}"])
    ranges = prompt.forbidden_ids(layout, OUTPUT[output], published=True)
    case.report.equal(f"forbidden {name}", [list(ids) for ids in ranges], item["inclusive_ranges"])
    case.report.equal(f"forbidden {name} count", sum(last - first + 1 for first, last in ranges), item["count"])


def _decode_output(case: Case, what: str, item: Mapping[str, Any]) -> None:
    def found() -> list[dict[str, Any]]:
        before, output = item["prompt"], OUTPUT[item["output_modality"]]
        if not item["generated"].startswith(before):
            raise ValueError(f"{what}: the generated string does not begin with the prompt")
        pieces = prompt.decode_output(before, item["generated"][len(before) :], output, _vocoder, published=True)
        return [_piece(piece) for piece in pieces]

    if item.get("error"):
        case.report.refused(what, found)
    else:
        case.report.equal(what, found(), item["result"])


def _vocoder(speech: str) -> np.ndarray:
    """The golden data's stand-in: 100 samples for each semantic unit, with the unit as their value."""
    return np.repeat([float(unit) for unit in re.findall(r"\[Hu(\d+)\]", speech)], 100)


def _piece(piece: str | np.ndarray) -> dict[str, Any]:
    if isinstance(piece, str):
        return {"type": "TEXT", "text": piece}
    first, last = (float(piece[0]), float(piece[-1])) if len(piece) else (None, None)
    return {"type": "SPEECH", "samples": len(piece), "first_value": first, "last_value": last}
