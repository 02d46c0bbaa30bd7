"""Spirit LM's unit vocoders."""

from __future__ import annotations

import numpy as np
import torch
from conformance.registry import Case, kind
from safetensors.torch import load_file

from spiritlm.run.weights import load_weights
from spiritlm.synthesis.published import current_names
from spiritlm.synthesis.published_hifigan import published_hifigan
from spiritlm.synthesis.unit_hifigan import UnitHifigan
from spiritlm.tokens.streams import at_units

TOLERANCE, LONG_TOLERANCE = 1e-4, 1e-3
Tensors = dict[str, torch.Tensor]


def _network(case: Case) -> UnitHifigan:
    path = case.folder / "state.safetensors"
    network = UnitHifigan(published_hifigan(case.read("config.json")))
    return load_weights(network, current_names(load_file(path)), path).eval()


def _durations(case: Case, network: UnitHifigan, io: Tensors) -> None:
    assert network.dur_predictor is not None
    for name, code in (("", io["code_dedup"]), ("_not_dedup", io["code"])):
        found = network.dur_predictor(network.dict(code[None]))
        case.report.near(f"log_duration{name}", found, io[f"log_duration{name}"], TOLERANCE)
        expected = io[f"durations{name}"]
        case.report.equal(f"durations{name}", network.durations(code[None]).tolist(), expected.tolist())


@kind("spirit_hifigan_base")
@torch.inference_mode()
def spirit_hifigan_base(case: Case) -> None:
    io, network = load_file(case.folder / "io.safetensors"), _network(case)
    _durations(case, network, io)

    def speak(units: torch.Tensor, voice: tuple[int, int], lasting: torch.Tensor | None = None) -> torch.Tensor:
        units = units if lasting is None else units.repeat_interleave(lasting)
        return network(network.embed(units[None], speakers=torch.tensor([voice[0]]), styles=torch.tensor([voice[1]])))[
            0
        ]

    def paced(units: torch.Tensor, voice: tuple[int, int]) -> torch.Tensor:
        return speak(units, voice, network.durations(units[None])[0])

    code, deduplicated = io["code"], io["code_dedup"]
    found = {
        "wav_nodur": speak(code, (1, 3)),
        "wav_nodur_defaults": speak(code, (2, 8)),
        "wav_dur": paced(deduplicated, (1, 3)),
        "wav_dur_not_dedup_input": paced(deduplicated[:5], (0, 5)),
        "wav_negative": speak(io["code_with_negative"][io["code_with_negative"] >= 0], (1, 3)),
    }
    for name, wave in found.items():
        case.report.near(name, wave, io[name], LONG_TOLERANCE)


@kind("spirit_hifigan_expressive")
@torch.inference_mode()
def spirit_hifigan_expressive(case: Case) -> None:
    io, network = load_file(case.folder / "io.safetensors"), _network(case)
    shape = network.shape
    _durations(case, network, io)

    def speak(units: torch.Tensor, pitch: torch.Tensor, style: torch.Tensor, speaker: int) -> torch.Tensor:
        return network(network.embed(units[None], pitch[None], style[None], torch.tensor([speaker])))[0]

    code, config = io["code"], case.read("config.json")

    def spread(name: str, hop: str) -> torch.Tensor:
        rates = (1.0, round(config[hop] / shape.hop))
        return torch.from_numpy(at_units(io[name].numpy(), *rates, np.arange(len(code))))

    style = spread("style_code_1hz", "style_hop_size")
    pitch, short = (spread(name, "f0_hop_size") for name in ("f0_code_12hz", "f0_code_short"))
    lasting = network.durations(io["code_dedup"][None])[0]
    names = ("code_dedup", "f0_code_per_unit", "style_code_per_unit")
    found = {
        "wav_nodur": speak(code, pitch, style, 3),
        "wav_nodur_default_speaker": speak(code, pitch, style, 2),
        "wav_nodur_short_f0": speak(code, short, style, 3),
        "wav_dur": speak(*(io[name].repeat_interleave(lasting) for name in names), 3),
    }
    for name, wave in found.items():
        case.report.near(name, wave, io[name], LONG_TOLERANCE)
