"""GLM-4-Voice's speech tokenizer: its front end, its encoder and how it is trained."""

from __future__ import annotations

from typing import Any

import torch
from conformance.registry import Case, kind
from safetensors.torch import load_file

from spiritlm.audio.mel import HOP
from spiritlm.audio.sinc_resample import sinc_resample
from spiritlm.audio.whisper_mel import whisper_log_mel
from spiritlm.units.vq_whisper import VqWhisper
from spiritlm.units.vq_whisper_files import published_config, published_weights

TOLERANCE = 1e-4


def _tensors(case: Case, name: str = "io") -> dict[str, torch.Tensor]:
    return load_file(case.folder / f"{name}.safetensors")


def _model(case: Case, folder: Any = None, drop: tuple[str, ...] = ()) -> VqWhisper:
    """The case's configuration with the weights in `folder`, or its own."""
    config = published_config(case.read("config.json"), encoder_only=False)
    path = (folder or case.folder) / "state.safetensors"
    tensors = {name: tensor for name, tensor in load_file(path).items() if not name.endswith(drop or ("\n",))}
    return published_weights(VqWhisper(config), tensors, path)


@kind("glm_mel_frontend")
def glm_mel_frontend(case: Case) -> None:
    config, io = case.read("config.json"), _tensors(case)
    waves = [io[f"waveform_{number}"] for number in range(sum(name.startswith("waveform_") for name in io))]
    multiple = config["pad_to_multiple_of"]

    def padded(chosen: list[torch.Tensor]) -> torch.Tensor:
        longest = -(-max(map(len, chosen)) // multiple) * multiple
        return torch.stack([torch.nn.functional.pad(wave, (0, longest - len(wave))) for wave in chosen])

    for name, expected in io.items():
        if name.startswith("features_"):
            _, bins, *alone = name.split("_")
            chosen = [waves[int(alone[0].removeprefix("item"))]] if alone else waves
            case.report.near(name, whisper_log_mel(padded(chosen), int(bins), None), expected, TOLERANCE)
        elif name.startswith("mask_"):
            frames = torch.tensor([-(-len(wave) // HOP) for wave in waves])
            found = torch.arange(expected.shape[1]) < frames[:, None]
            case.report.equal(name, found.int().tolist(), expected.tolist())
        elif name.startswith("resample_") and name.endswith("_in"):
            rate = int(name.split("_")[1])
            found = sinc_resample(expected, rate, config["sampling_rate"])
            case.report.near(name, found, io[name.replace("_in", "_out")], TOLERANCE)


@kind("glm_vq_whisper")
@torch.inference_mode()
def glm_vq_whisper(case: Case) -> None:
    io, model = _tensors(case), _model(case).eval()
    encoder, report = model.encoder, case.report

    def ids(mel: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        vectors = encoder.vectors(mel, mask)
        return vectors, encoder.codebook.codes(vectors)

    mel, mask = io["input_features"], io["attention_mask"].bool()
    vectors, found = ids(mel, mask)
    kept = mask[:, :: model.config.hop * model.config.pool]
    report.equal("token_mask", kept.int().tolist(), io["token_mask"].tolist())
    report.near("hidden_pre_vq", vectors[kept], io["hidden_pre_vq"][kept], TOLERANCE)
    report.equal("token_ids", found[kept].tolist(), io["token_ids"][kept].tolist())
    for number in range(len(mel)):
        if (name := f"valid_token_ids_{number}") in io:
            report.equal(name, found[number][kept[number]].tolist(), io[name].tolist())
    if "causal_full_ids" not in io or (block := model.config.quantize_causal_block_size) is None:
        return
    frames = {"full": mel.shape[-1]}
    frames |= {name.split("_")[1]: 0 for name in io if name.startswith("causal_prefix")}
    for name in frames:
        if name.startswith("prefix"):
            frames[name] = 2 * block * int(name.removeprefix("prefix"))
    if "causal_partial_ids" in io:
        frames["partial"] = io["causal_partial_ids"].shape[-1] * model.config.hop * model.config.pool
    for name, length in frames.items():
        part = mel[:1, :, :length]
        vectors, found = ids(part, torch.ones(1, part.shape[-1], dtype=torch.bool))
        report.equal(f"causal_{name}_ids", found[0].tolist(), io[f"causal_{name}_ids"].tolist())
        if (hidden := f"causal_{name}_hidden") in io:
            report.near(hidden, vectors[0], io[hidden], TOLERANCE)


@kind("glm_vq_whisper_full")
def glm_vq_whisper_full(case: Case) -> None:
    io, model, report = _tensors(case), _model(case), case.report
    mel, mask = io["input_features"], io["attention_mask"].bool()
    kept = mask[:, :: model.config.hop * model.config.pool]
    with torch.inference_mode():
        codes = model.eval().encoder.codebook.codes(model.encoder.vectors(mel, mask))
        report.equal("token_ids", codes[kept].tolist(), io["token_ids"][kept].tolist())
        for name, ids in (
            ("encoder_last_hidden_state", codes),
            ("encoder_last_hidden_state_from_ids", io["token_ids"]),
        ):
            understood = model.encoder.understood(model.encoder.codebook.weight[ids], kept)
            report.near(name, understood[kept], io[name][kept], TOLERANCE)
    understood, kept, codebook = model.train()(mel, mask)
    labels = io["labels"]
    report.near("logits", model.text_logits(labels, understood, kept).detach(), io["logits"], TOLERANCE)
    loss = model.text_loss(labels, understood, kept) + codebook
    report.near("quantize_loss", codebook.detach().reshape(1), io["quantize_loss"], TOLERANCE)
    report.near("loss_total", loss.detach().reshape(1), io["loss_total"], TOLERANCE)


@kind("glm_vq_whisper_train_ema")
def glm_vq_whisper_train_ema(case: Case) -> None:
    _train_steps(case, _model(case), _tensors(case), _tensors(case))


@kind("glm_vq_whisper_train_grad")
def glm_vq_whisper_train_grad(case: Case) -> None:
    folder = case.sibling("uses_state_and_inputs_of")
    inputs = load_file(folder / "io.safetensors")
    _train_steps(case, _model(case, folder, ("ema_count", "ema_weight")), inputs, _tensors(case))


@kind("glm_vq_whisper_train_restart")
def glm_vq_whisper_train_restart(case: Case) -> None:
    folder, io = case.sibling("uses_state_and_inputs_of"), _tensors(case)
    model = _model(case, folder)
    codebook, restart = model.encoder.codebook, model.encoder.codebook.restart
    drawn = iter(range(sum(name.endswith("picked_rows") for name in io)))

    def restart_as_drawn(vectors: torch.Tensor, rows: torch.Tensor | None = None) -> None:
        number = next(drawn)
        if number == 0 and "restarted_code_ids" in io:
            case.report.equal("restarted_code_ids", codebook.dead().tolist(), io["restarted_code_ids"].tolist())
        restart(vectors, io[f"restart{number}_picked_rows"])

    codebook.restart = restart_as_drawn  # type: ignore[method-assign]
    _train_steps(case, model, load_file(folder / "io.safetensors"), io)


def _train_steps(
    case: Case, model: VqWhisper, inputs: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]
) -> None:
    """Forward and backward of the codebook's loss alone, step by step, against everything that is told of a step."""
    encoder = model.train().encoder
    steps = sorted({name.split("_")[0] for name in expected if name.startswith("step")})
    for step in steps:
        mel, mask = inputs[f"{step}_input_features"], inputs[f"{step}_attention_mask"].bool()
        kept = mask[:, :: model.config.hop * model.config.pool]
        model.zero_grad(set_to_none=True)
        vectors = encoder.vectors(mel, mask)
        _, codes, loss = encoder.codebook(vectors, kept)
        loss.backward()
        found = {
            "hidden_pre_vq": vectors[kept],
            "quantize_loss": loss.reshape(1),
            "codebook_after": encoder.codebook.weight,
            "ema_count_after": getattr(encoder.codebook, "ema_count", None),
            "ema_weight_after": getattr(encoder.codebook, "ema_weight", None),
            "grad_conv2_weight": encoder.conv2.weight.grad,
            "grad_codebook": encoder.codebook.weight.grad,
        }
        for name, value in found.items():
            if (full := f"{step}_{name}") in expected and value is not None:
                told = expected[full][kept] if name == "hidden_pre_vq" else expected[full]
                case.report.near(full, value.detach(), told, TOLERANCE)
        case.report.equal(f"{step} ids", codes[kept].tolist(), expected[f"{step}_token_ids"][kept].tolist())
        active = len(codes[kept].unique())
        case.report.equal(f"{step} active", active, int(expected[f"{step}_num_active_codes"]))
