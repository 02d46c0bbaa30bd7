"""Speech decoders of GLM-4-Voice and CosyVoice: flow, vocoder, streaming as published, mel front end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from conformance.registry import Case, kind
from safetensors.torch import load_file

from spiritlm.audio.vocoder_mel import VocoderMel, vocoder_log_mel
from spiritlm.run.weights import load_weights
from spiritlm.synthesis.flow import Flow, Known, times, warped
from spiritlm.synthesis.hift import Hift
from spiritlm.synthesis.noise import published_noise
from spiritlm.synthesis.published import current_names, published_flow, published_hift
from spiritlm.synthesis.published_stream import OVERLAP, PublishedStream

TOLERANCE, LONG_TOLERANCE = 1e-4, 1e-3
Tensors = dict[str, torch.Tensor]


def _io(case: Case) -> Tensors:
    return load_file(case.folder / "io.safetensors")


def _flow(config: dict[str, Any], folder: Path, dropout: bool = True) -> Flow:
    sections = [config[name] for name in ("flow", "encoder", "estimator")]
    shape = published_flow(*sections, config["decoder"]["cfm_params"], config.get("length_regulator"))
    if not dropout:
        shape = shape.model_copy(update={"encoder": shape.encoder.model_copy(update={"dropout": 0.0})})
    return load_weights(Flow(shape), load_file(folder / "state.safetensors"), folder).eval()


def _hift(config: dict[str, Any], folder: Path) -> Hift:
    shape = published_hift(config["generator"], config["f0_predictor"])
    return load_weights(Hift(shape), current_names(load_file(folder / "state.safetensors")), folder).eval()


def _known(flow: Flow, condition: torch.Tensor, prompt: torch.Tensor, speaker: torch.Tensor) -> Known:
    """`condition` `[1, frames, mels]`, and the `prompt` `[1, frames, mels]` that heads it."""
    held = torch.zeros_like(condition)
    held[:, : prompt.shape[1]] = prompt
    return Known(condition.transpose(1, 2), flow.voice(speaker), held.transpose(1, 2))


@kind("cosy_mel_frontend")
def cosy_mel_frontend(case: Case) -> None:
    config, io = case.read("config.json"), _io(case)

    def shape(name: str) -> VocoderMel:
        found = config[name]
        return VocoderMel(
            sample_rate=found["sr"],
            size=found["win"],
            hop=found["hop"],
            mels=found["n_mels"],
            lowest=found["fmin"],
            highest=found["fmax"],
        )

    for name, expected in io.items():
        if not name.startswith("mel_"):
            continue
        rate = name.split("_")[1]
        front, wave = shape(f"mel_{rate}"), io[f"waveform_{rate}"]
        if name.endswith("fmax_null"):
            front = front.model_copy(update={"highest": None})
        if "first" in name:
            wave = wave[: int(name.split("_")[3])]
        case.report.near(name, vocoder_log_mel(wave[None], front), expected, TOLERANCE)


@kind("cosy_flow_glm")
@torch.inference_mode()
def cosy_flow_glm(case: Case) -> None:
    config, io, report = case.read("config.json"), _io(case), case.report
    flow = _flow(config, case.folder)
    for run in ("prompted", "noprompt"):
        if f"{run}/mel" not in io:
            continue
        new = io["token"]
        prompt, speaker = io["prompt_feat"][:, :0], torch.zeros_like(io["embedding"])
        units = new
        if run == "prompted":
            units, prompt, speaker = torch.cat([io["prompt_token"], new], 1), io["prompt_feat"], io["embedding"]
        prompt_units, known_frames = units.shape[1] - new.shape[1], prompt.shape[1]
        encoded = flow.encoder(flow.embed(units))
        report.near(f"{run}/encoder_out", encoded, io[f"{run}/encoder_out"], TOLERANCE)
        report.near(f"{run}/encoder_proj", flow.encoder_proj(encoded), io[f"{run}/encoder_proj"], TOLERANCE)
        report.near(f"{run}/spk", flow.voice(speaker), io[f"{run}/spk"], TOLERANCE)
        condition = flow.condition(units, prompt_units, known_frames)
        report.near(f"{run}/mu", condition, io[f"{run}/mu"], TOLERANCE)
        known = _known(flow, condition, prompt, speaker)
        noise = published_noise(condition.shape[1], flow.config.mels)
        report.near(f"{run}/noise", noise, io[f"{run}/noise"], TOLERANCE)
        steps = len(io[f"{run}/euler_t"])
        report.near(f"{run}/euler_t", times(steps)[:-1], io[f"{run}/euler_t"], TOLERANCE)
        if f"{run}/estimator_step0_cond" in io:
            _first_step(case, flow, known, noise, run, steps)
        mel = flow.solve(noise, known, steps)[:, :, known_frames:]
        report.near(f"{run}/mel", mel, io[f"{run}/mel"], LONG_TOLERANCE)
    if "enc_batch_in" in io:
        found = flow.encoder(io["enc_batch_in"], io["enc_batch_len"])
        for row, length in enumerate(io["enc_batch_len"].tolist()):
            report.near(f"enc_batch_out {row}", found[row, :length], io["enc_batch_out"][row, :length], TOLERANCE)
    if "est_x" in io:
        _padded_estimates(case, flow, io)
    lengths = io.get("feat_len_for_n_tokens_1_to_600")
    if lengths is not None:
        report.equal("mel lengths", [flow.config.frames(n) for n in range(1, 601)], lengths.tolist())


def _first_step(case: Case, flow: Flow, known: Known, noise: torch.Tensor, run: str, steps: int) -> None:
    io, moments, estimator = _io(case), times(steps), flow.decoder.estimator
    told, untold = (estimator(k.stack(noise), moments[:1]) for k in (known, known.unknown()))
    case.report.near("estimator_step0_cond", told, io[f"{run}/estimator_step0_cond"], TOLERANCE)
    case.report.near("estimator_step0_uncond", untold, io[f"{run}/estimator_step0_uncond"], TOLERANCE)
    stepped = noise + moments[1] * flow.velocity(noise, moments[:1], known)
    case.report.near("x_after_step0", stepped, io[f"{run}/x_after_step0"], TOLERANCE)


def _padded_estimates(case: Case, flow: Flow, io: Tensors) -> None:
    report, estimator = case.report, flow.decoder.estimator
    known = Known(io["est_mu"], io["est_spks"], io["est_cond"])
    stacked = known.stack(io["est_x"])
    report.near("est_out", estimator(stacked, io["est_t"], io["est_mask"]), io["est_out"], TOLERANCE)
    length = int(io["est_mask"][1].sum())
    alone = estimator(stacked[1:2, :, :length], io["est_t"][1:2])
    report.near("est_out_item1_unpadded", alone, io["est_out_item1_unpadded"], TOLERANCE)
    first, mu = (torch.cat([io[name][:1], io[name][:1, :, :1]], 2) for name in ("est_x", "est_mu"))
    odd = estimator(Known(mu, io["est_spks"][:1], torch.zeros_like(mu)).stack(first), io["est_t"][:1])
    report.near("est_odd_out", odd, io["est_odd_out"], TOLERANCE)


@kind("cosy_flow_glm_train")
def cosy_flow_glm_train(case: Case) -> None:
    config, io, report = case.read("config.json"), _io(case), case.report
    flow = _flow(config, case.sibling("uses_state_of"), dropout=False).train()
    mel, frames = io["speech_feat"].transpose(1, 2), io["speech_feat_len"]
    for run in _runs(io):
        flow.zero_grad()
        condition = flow.batch_condition(io["speech_token"], io["speech_token_len"], frames).transpose(1, 2)
        report.near(f"{run}/mu", condition.detach(), io[f"{run}/mu"], TOLERANCE)
        moments = warped(io[f"{run}/t_uniform"])
        report.near(f"{run}/t_used", moments, io[f"{run}/t_used"], TOLERANCE)
        known = Known(condition, flow.voice(io["embedding"]), io[f"{run}/cond"])
        kept = known.where(io[f"{run}/cfg_uniform"] > config["decoder"]["cfm_params"]["training_cfg_rate"])
        _loss_and_gradients(case, flow, run, flow.matching_loss(mel, frames, kept, moments, io[f"{run}/z"]))


@kind("cosy_flow_v2_train")
def cosy_flow_v2_train(case: Case) -> None:
    io, folder = _io(case), case.sibling("uses_state_of")
    config = Case(folder, case.report).read("config.json")
    flow = _flow(config, folder, dropout=False).train()
    mel, frames = io["speech_feat"].transpose(1, 2), io["speech_feat_len"]
    for run in _runs(io):
        flow.zero_grad()
        blocks = bool(io[f"{run}/streaming"])
        condition = flow.batch_condition(io["speech_token"], io["speech_token_len"], frames, blocks).transpose(1, 2)
        prompt = mel * (torch.arange(mel.shape[2]) < io[f"{run}/cond_frames"][:, None])[:, None]
        known = Known(condition, flow.voice(io["embedding"]), prompt)
        kept = known.where(io[f"{run}/cfg_uniform"] > config["decoder"]["cfm_params"]["training_cfg_rate"])
        _loss_and_gradients(
            case, flow, run, flow.matching_loss(mel, frames, kept, io[f"{run}/t"], io[f"{run}/z"], blocks)
        )


def _runs(io: Tensors) -> list[str]:
    return sorted({name.split("/")[0] for name in io if name.startswith("run")})


def _loss_and_gradients(case: Case, flow: Flow, run: str, loss: torch.Tensor) -> None:
    io = _io(case)
    loss.backward()
    gradients = {
        "grad_final_proj": flow.decoder.estimator.final_proj.weight.grad,
        "grad_input_embedding": flow.input_embedding.weight.grad,
    }
    case.report.near(f"{run}/loss", loss.detach().reshape(1), io[f"{run}/loss"], TOLERANCE)
    for name, found in gradients.items():
        if f"{run}/{name}" in io:
            case.report.near(f"{run}/{name}", found, io[f"{run}/{name}"], TOLERANCE)


@kind("cosy_flow_glm_stream")
@torch.inference_mode()
def cosy_flow_glm_stream(case: Case) -> None:
    config, io, report = case.read("config.json"), _io(case), case.report
    flow, hift = _flow(config["flow"], case.sibling("uses_flow_state_of")), _hift(config["hift"], case.folder)
    sources = iter([io[f"chunk{number}/source"].clone() for number in range(len(config["chunks"]))])
    stream = PublishedStream(flow, hift, lambda f0: next(sources))
    pieces, done = io["token"].split(config["chunks"], dim=1), 0
    for number, units in enumerate(pieces):
        report.near(f"chunk{number}/flow_mel", stream.new_mel(units), io[f"chunk{number}/flow_mel"], LONG_TOLERANCE)
        wave = stream.push(units, last=number == len(pieces) - 1)
        heard, done = stream.mel[:, :, done:], stream.mel.shape[2]
        report.near(f"chunk{number}/hift_mel_in", heard, io[f"chunk{number}/hift_mel_in"], LONG_TOLERANCE)
        report.near(f"chunk{number}/waveform", wave, io[f"chunk{number}/waveform"], LONG_TOLERANCE)
    report.near("offline/mel", PublishedStream(flow, hift).new_mel(io["token"]), io["offline/mel"], LONG_TOLERANCE)


@dataclass
class FlowCache:
    """CosyVoice 1: noise and condition of the prompt and of the last frames, which head those of the next call."""

    noise: torch.Tensor
    """`[1, mels, frames]`."""
    condition: torch.Tensor

    @classmethod
    def of(cls, noise: torch.Tensor, condition: torch.Tensor, prompt_frames: int) -> FlowCache:
        """What a call leaves, `[1, mels, frames]` both."""
        return cls(*(torch.cat([x[:, :, :prompt_frames], x[:, :, -OVERLAP:]], dim=2) for x in (noise, condition)))

    def head(self, noise: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Those of the next call, with what is kept in front."""
        kept = self.noise.shape[2]
        return (
            torch.cat([self.noise, noise[:, :, kept:]], dim=2),
            torch.cat([self.condition, condition[:, :, kept:]], dim=2),
        )


@kind("cosy_flow_v1")
@torch.inference_mode()
def cosy_flow_v1(case: Case) -> None:
    io, report = _io(case), case.report
    flow = _flow(case.read("config.json"), case.folder)
    prompt, frames = io["prompt_feat"], io["prompt_feat"].shape[1]
    for call in sorted({name.split("/")[0] for name in io if name.startswith("call")}):
        noise = io[f"{call}/noise_before_cache"]
        cache = FlowCache(*(io[f"{call}/cache_in"][..., i] for i in (0, 1)))
        units = _units_that_fill(flow, io, noise.shape[2] - frames, call)
        if f"{call}/encoder_out" in io:
            found = flow.encoder(flow.embed(units))
            report.near(f"{call}/encoder_out", found, io[f"{call}/encoder_out"], TOLERANCE)
        condition = flow.condition(units, io["prompt_token"].shape[1], frames).transpose(1, 2)
        noise, condition = cache.head(noise, condition)
        report.near(f"{call}/mu_used", condition, io[f"{call}/mu_used"], TOLERANCE)
        left = FlowCache.of(noise, condition, frames)
        found = torch.stack([left.noise, left.condition], dim=-1)
        report.near(f"{call}/cache_out", found, io[f"{call}/cache_out"], TOLERANCE)
        known = _known(flow, condition.transpose(1, 2), prompt, io["embedding"])
        report.near(f"{call}/mel", flow.solve(noise, known)[:, :, frames:], io[f"{call}/mel"], LONG_TOLERANCE)


def _units_that_fill(flow: Flow, io: Tensors, frames: int, call: str) -> torch.Tensor:
    """Prompt and new units of a call that gave so many new frames; which units they were is not told, but their mel's
    length tells how many, and `mu_used` which of two."""
    token, prompt = io["token"], io["prompt_token"]
    numbers = [n for n in range(1, token.shape[1] + 1) if flow.config.frames(n) == frames]
    if f"{call}/encoder_out" in io:
        numbers = [n for n in numbers if prompt.shape[1] + n == io[f"{call}/encoder_out"].shape[1]]
    return torch.cat([prompt, token[:, : numbers[-1]]], dim=1)


@kind("cosy_flow_v2")
@torch.inference_mode()
def cosy_flow_v2(case: Case) -> None:
    config, io, report = case.read("config.json"), _io(case), case.report
    flow = _flow(config, case.folder)
    prompt, old, steps = io["prompt_feat"], io["prompt_token"].shape[1], config.get("n_timesteps", 10)
    units, frames = torch.cat([io["prompt_token"], io["token"]], 1), prompt.shape[1]
    for run, blocks in (("full", False), ("stream", True)):
        found = flow.encoder(flow.embed(units), blocks=blocks)
        report.near(f"{run}/encoder_out", found, io[f"{run}/encoder_out"], TOLERANCE)
        condition = flow.condition(units, old, frames, blocks)
        report.near(f"{run}/mu", condition, io[f"{run}/mu"], TOLERANCE)
        known = _known(flow, condition, prompt, io["embedding"])
        if f"{run}/estimator_step0" in io:
            both = torch.cat([known.stack(io["noise"]), known.unknown().stack(io["noise"])])
            found = flow.decoder.estimator(both, torch.zeros(2), blocks=blocks)
            report.near(f"{run}/estimator_step0", found, io[f"{run}/estimator_step0"], TOLERANCE)
        mel = flow.solve(io["noise"], known, steps, blocks)[:, :, frames:]
        report.near(f"{run}/mel", mel, io[f"{run}/mel"], LONG_TOLERANCE)
    shape = flow.config.encoder
    assert shape.block is not None
    for name in [name for name in io if name.startswith("chunked/")]:
        heard = old + int(name.split("_")[1]) * shape.block
        later = units[:, heard : heard + shape.look_ahead]
        encoded = flow.encoder(flow.embed(units[:, :heard]), later=flow.embed(later))
        condition = flow.encoder_proj(encoded)
        known = _known(flow, condition, prompt, io["embedding"])
        mel = flow.solve(io["noise"][:, :, : condition.shape[1]], known, steps)[:, :, frames:]
        report.near(name, mel, io[name], LONG_TOLERANCE)


@kind("cosy_hift_22k")
def cosy_hift_22k(case: Case) -> None:
    io = _io(case)
    start = io["phase_offsets_raw"][..., 0].double() / (2 * torch.pi)
    _vocoder(case, io, start, io["noise_unit_gaussian"].transpose(1, 2), io["uv"][:, 0])


@kind("cosy_hift_24k")
def cosy_hift_24k(case: Case) -> None:
    io = _io(case)
    _vocoder(case, io, io["rand_ini"].clone(), io["noise_unit_gaussian"], io["uv"][..., 0])


@torch.inference_mode()
def _vocoder(case: Case, io: Tensors, start: torch.Tensor, noise: torch.Tensor, voiced: torch.Tensor) -> None:
    report, hift = case.report, _hift(case.read("config.json"), case.folder)
    f0 = hift.f0_predictor(io["mel"])
    report.near("f0", f0, io["f0"], TOLERANCE * float(io["f0"].max().clamp(min=1)))
    above = (io["f0"] > hift.shape.voiced_threshold).repeat_interleave(hift.shape.hop, dim=1)
    report.equal("uv", above.int().tolist(), voiced.int().tolist())
    start[:, 0] = 0
    report.near("source", hift.m_source(io["f0"], start, noise, published=True), io["source"], LONG_TOLERANCE)
    report.near("waveform", hift(io["mel"], io["source"]), io["waveform"], LONG_TOLERANCE)
    if "cache_source" in io:
        source, kept = io["source"].clone(), io["cache_source"]
        source[:, :, : kept.shape[2]] = kept
        report.near("waveform_with_cache", hift(io["mel"], source), io["waveform_with_cache"], LONG_TOLERANCE)
