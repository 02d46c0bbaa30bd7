"""Spirit LM Expressive's style encoder."""

from __future__ import annotations

import re

from conformance.registry import Case, kind

TOLERANCE = 1e-4


@kind("spirit_style_w2v2")
def spirit_style_w2v2(case: Case) -> None:
    """Logits, units and hidden states of the waveform's first seconds, for each length that the case has."""
    import torch  # cases of the token formats do without
    from safetensors.torch import load_file

    from spiritlm.units.style_wav2vec2 import SAMPLE_RATE, published_style

    io, report = load_file(case.folder / "io.safetensors"), case.report
    weights = load_file(case.folder / "state.safetensors")
    tokenizer = published_style(case.read("config.json"), weights, case.folder)
    network = tokenizer.network
    for name, expected in io.items():
        if not (found := re.fullmatch(r"(logits|ids|wav2vec2_hidden)_([\d.]+)s", name)):
            continue
        wave = io["waveform"][: round(float(found[2]) * SAMPLE_RATE)].numpy()
        logits = tokenizer.logits([wave])[0].cpu()
        if found[1] == "logits":
            report.near(name, logits[None].numpy(), expected.numpy(), TOLERANCE)
        elif found[1] == "ids":
            report.equal(name, logits.argmax(-1).tolist(), expected.tolist())
            units = tokenizer.encode(wave, SAMPLE_RATE).values
            report.equal(f"{name} as units", units[: len(expected)].tolist(), expected.tolist())
        else:
            prepared = tokenizer.prepared(wave)[None].to(next(network.parameters()).device)
            with torch.inference_mode():
                hidden = network.encoder(prepared, torch.tensor([len(wave)], device=prepared.device))
            report.near(name, hidden.cpu().numpy(), expected.numpy(), TOLERANCE)
