"""Let an exported model continue held-out stories, read and heard, and keep what it wrote and said.

In:  an export stage and the recordings of a speak stage.
Out: `samples.json`, and for each sample `N-prompt.wav` where the story was heard, `N.wav` where the model spoke.
"""

from __future__ import annotations

from typing import Any

from pydantic import PositiveInt

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.corpus.manifest import corpus_root, read_manifest
from spiritlm.errors import InputError
from spiritlm.inference.model import Output, Sampling, Speech, SpeechTextLM
from spiritlm.inference.transcript import transcript
from spiritlm.run.files import write_json
from spiritlm.run.program import run_program
from spiritlm.run.progress import track
from spiritlm.run.stage import Input, Stage, StageRecipe

ASKED: tuple[tuple[str, Output], ...] = (("text", "text"), ("speech", "text"), ("text", "speech"), ("speech", "speech"))
"""How the story is given and how the model answers."""


class GenerateRecipe(StageRecipe):
    model: Input
    speech: Input
    stories: PositiveInt = 2
    """Held-out stories continued in each of the four ways."""
    max_new_text: PositiveInt = 24
    max_new_units: PositiveInt = 120
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


def generate(recipe: GenerateRecipe, stage: Stage) -> dict[str, Any]:
    model = SpeechTextLM.from_pretrained(recipe.model)
    if model.voice is None:
        raise InputError(f"model = {recipe.model}: has no voice to tell stories with")
    documents = [d for d in read_manifest(recipe.speech, "test") if d.id.endswith("_mutual")][: recipe.stories]
    samples = []
    work = [(document, given, output) for document in documents for given, output in ASKED]
    for number, (document, given, output) in enumerate(track(work, "continue stories", len(work))):
        sample: dict[str, Any] = {"story": document.id, "given": given, "output": output, "prompt": document.text}
        wave = read_audio(corpus_root(recipe.speech) / document.audio, model.ears.sample_rate)
        prompt = document.text if given == "text" else Speech(wave, model.ears.sample_rate)
        new_tokens = recipe.max_new_text if output == "text" else recipe.max_new_units
        sampling = Sampling(new_tokens, recipe.temperature, recipe.top_p, recipe.seed + number)
        segments = model.generate([prompt], output, sampling)
        spoken = model.speak(segments)
        sample["continuation"] = transcript(segments)
        if given == "speech":
            sample["prompt_wav"] = f"{number}-prompt.wav"
            write_wav(stage.folder / sample["prompt_wav"], wave, model.ears.sample_rate)
        if len(spoken):
            sample["wav"] = f"{number}.wav"
            write_wav(stage.folder / sample["wav"], spoken, model.voice.sample_rate)
        samples.append(sample)
    write_json(stage.folder / "samples.json", samples)
    return {"samples": len(samples), "spoken": sum("wav" in sample for sample in samples)}


if __name__ == "__main__":
    run_program("generate", GenerateRecipe, generate, __doc__)
