"""GLM-4-Voice's chat protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conformance.registry import Case, kind

from spiritlm.tokens import chat
from spiritlm.tokens.layout import GLM_AUDIO_UNITS, GLM_FIRST_AUDIO, GLM_MARKERS

MEL_FRAMES = 2
"""The stand-in decoder returns so many for each token."""


@kind("glm_chat_template")
def glm_chat_template(case: Case) -> None:
    for number, turns in enumerate(case.read("conversations.json")):
        for turn, item in enumerate(turns):
            _turn(case, f"conversation {number} turn {turn}", item)
    ids = case.read("ids.json")
    for item in case.read("streams.json"):
        _stream(case, f"stream {item['name']}", item, ids)
    for item in case.read("layout.json"):
        text, audio = item["text_tokens"], item["audio_tokens"]
        found = [[name[0].upper(), length] for name, length in chat.runs(text, audio)]
        case.report.equal(f"layout {text}/{audio}", found, item["runs"])
    for item in case.read("token_count.json"):
        _token_count(case, item)
    _ids(case, ids)
    empty = case.read("empty_audio.json")
    case.report.refused("empty_audio", lambda: chat.prompt(empty["user"], published=True))


def _turn(case: Case, what: str, item: Mapping[str, Any]) -> None:
    history = item["previous_input"] + item["previous_completion"]
    if item.get("error"):
        case.report.refused(what, lambda: chat.prompt(item["user"], history, published=True))
        return
    case.report.equal(f"{what} mode", "text" if isinstance(item["user"], str) else "audio", item["input_mode"])
    request = {"prompt": chat.prompt(item["user"], history, published=True), **chat.SAMPLING}
    case.report.equal(f"{what} request", request, item["request"])
    case.report.equal(f"{what} completion", _completion(item["reply_token_ids"]), item["completion_text"])


def _completion(ids: list[int]) -> str:
    """A reply before its end, as the stand-in tokenizer prints it."""
    before = ids[: ids.index(chat.END_OF_REPLY)] if chat.END_OF_REPLY in ids else ids
    names = [chat.AUDIO.format(id - GLM_FIRST_AUDIO) if id >= GLM_FIRST_AUDIO else f"({id})" for id in before]
    return "".join(names)


def _stream(case: Case, what: str, item: Mapping[str, Any], ids: Mapping[str, Any]) -> None:
    protocol = {"first_audio": ids["audio_offset"], "end": ids["stop_token_of_demo"]}
    reply = chat.split_reply(item["token_ids"], **protocol)
    case.report.equal(f"{what} text", reply.text, item["text_ids"])
    case.report.equal(f"{what} audio", reply.audio, item["audio_ids"])

    def calls() -> list[dict[str, Any]]:
        sizes = ids["decoder_block_sizes"]
        return [_call(call) for call in chat.published_decoder_calls(item["token_ids"], **protocol, block_sizes=sizes)]

    if item["error"]:
        case.report.refused(f"{what} calls", calls)
    else:
        case.report.equal(f"{what} calls", calls(), item["decoder_calls"])
        case.report.equal(f"{what} completion", _completion(item["token_ids"]), item["completion_text"])


def _call(call: chat.DecoderCall) -> dict[str, Any]:
    return {
        "new_tokens": call.units,
        "prompt_token_count": call.before,
        "prompt_mel_frames": MEL_FRAMES * call.before,
        "finalize": call.last,
    }


def _token_count(case: Case, item: Mapping[str, Any]) -> None:
    samples, expected = item["samples"], item["tokens"]
    if isinstance(expected, str) or item.get("error"):
        case.report.refused(f"token_count {samples}", lambda: chat.token_counts(samples))
        return
    counts = chat.token_counts(samples)
    segments = item["segments_samples_melframes_maskedframes_tokens"]
    case.report.equal(f"token_count {samples} segments", [list(count) for count in counts], segments)
    case.report.equal(f"token_count {samples} tokens", sum(count.tokens for count in counts), expected)


def _ids(case: Case, expected: Mapping[str, Any]) -> None:
    found = {
        **GLM_MARKERS,
        "audio_offset": GLM_FIRST_AUDIO,
        "audio_count": GLM_AUDIO_UNITS,
        "last_audio_id": GLM_FIRST_AUDIO + GLM_AUDIO_UNITS - 1,
        "generation_stop": list(chat.STOP_IDS),
        "stop_token_of_demo": chat.END_OF_REPLY,
        "audio_token_string": chat.AUDIO.format("i"),
        "decoder_block_sizes": list(chat.BLOCK_SIZES),
    }
    for name, value in expected.items():
        case.report.equal(f"ids {name}", found.get(name), value)
