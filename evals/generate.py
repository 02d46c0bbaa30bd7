"""Let an exported model continue held-out stories, read and heard, keep what it wrote and said, and listen to it.

In:  an export stage, the recordings of a speak stage, and perhaps classifiers (evals/train_classifiers.py).
Out: `samples.json`: `samples`, a few stories continued in each of four ways, with `N-prompt.wav` where the story was
     heard and `N.wav` where the model spoke; `continuations`, more stories heard and continued in speech, with what is
     heard in prompt and continuation: words, mood, pitch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import SpokenDocument, corpus_root, read_manifest
from spiritlm.errors import InputError
from spiritlm.inference.model import SpeechTextLM
from spiritlm.inference.request import Output, Request, Sampling, Speech
from spiritlm.inference.transcript import transcript
from spiritlm.run.files import write_json
from spiritlm.run.program import run_program
from spiritlm.run.progress import progress
from spiritlm.run.stage import Input, Stage
from spiritlm.scoring.heard import heard
from spiritlm.scoring.jackknife import as_json, ratio
from spiritlm.scoring.judges import JudgedRecipe, Judges
from spiritlm.suites.shots import spread
from spiritlm.tokens.documents import Segment

ASKED: tuple[tuple[str, Output], ...] = (("text", "text"), ("speech", "text"), ("text", "speech"), ("speech", "speech"))
"""How the story is given and how the model answers."""


class GenerateRecipe(JudgedRecipe):
    model: Input
    speech: Input
    stories: PositiveInt = 2
    """Held-out stories continued in each of the four ways."""
    measured: NonNegativeInt = 24
    """Held-out stories continued from speech in speech, to be listened to."""
    max_new_text: PositiveInt = 24
    max_new_units: PositiveInt = 120
    temperature: float = 0.8
    top_p: float = 0.95
    seed: int = 0


class Told(NamedTuple):
    document: SpokenDocument
    given: str
    output: Output
    prompt: Speech
    segments: list[Segment]


def generate(recipe: GenerateRecipe, stage: Stage) -> dict[str, Any]:
    model = SpeechTextLM.from_pretrained(recipe.model)
    if model.voice is None or model.ears is None:
        raise InputError(f"model = {recipe.model}: has no voice to tell stories with, or no ears to hear them")
    documents = [d for d in read_manifest(recipe.speech, "test") if d.id.endswith("_mutual")]
    if not documents:
        raise InputError(f"speech = {recipe.speech}: expected test recordings called NAME_mutual to be continued")
    shown = [(document, *asked) for document in documents[: recipe.stories] for asked in ASKED]
    listened = spread(documents, recipe.measured)
    told = _told(model, recipe, [*shown, *((document, "speech", "speech") for document in listened)])
    samples = [_sample(model, number, one, stage) for number, one in enumerate(told[: len(shown)])]
    measured = _measured(model, told[len(shown) :], recipe.judges())
    write_json(stage.folder / "samples.json", {"samples": samples, "continuations": measured})
    return {"samples": len(samples), "spoken": sum("wav" in sample for sample in samples), **_summary(measured)}


def _told(
    model: SpeechTextLM, recipe: GenerateRecipe, asked: Sequence[tuple[SpokenDocument, str, Output]]
) -> list[Told]:
    assert model.ears is not None
    root, rate = corpus_root(recipe.speech), model.ears.sample_rate
    waves = [Speech.read(root / document.audio, rate) for document, _, _ in asked]
    requests = []
    for number, ((document, given, output), wave) in enumerate(zip(asked, waves, strict=True)):
        new = recipe.max_new_text if output == "text" else recipe.max_new_units
        sampling = Sampling(new, recipe.temperature, recipe.top_p, seed=recipe.seed + number)
        requests.append(Request([document.text if given == "text" else wave], output, sampling))
    found: dict[int, list[Segment]] = {}
    with progress("continue stories", len(requests)) as bar:
        for number, segments in model.generate_many(requests):
            found[number] = segments
            bar.advance()
    return [Told(*one, wave, found[number]) for number, (one, wave) in enumerate(zip(asked, waves, strict=True))]


def _sample(model: SpeechTextLM, number: int, told: Told, stage: Stage) -> dict[str, Any]:
    assert model.voice is not None
    sample: dict[str, Any] = {
        "story": told.document.id,
        "given": told.given,
        "output": told.output,
        "prompt": told.document.text,
        "continuation": transcript(told.segments),
    }
    if told.given == "speech":
        sample["prompt_wav"] = f"{number}-prompt.wav"
        write_wav(stage.folder / sample["prompt_wav"], told.prompt.wave, told.prompt.sample_rate)
    wave = model.speak(told.segments)
    if len(wave):
        sample["wav"] = f"{number}.wav"
        write_wav(stage.folder / sample["wav"], wave, model.voice.sample_rate)
    return sample


def _measured(model: SpeechTextLM, told: Sequence[Told], judges: Judges) -> list[dict[str, Any]]:
    """What is heard in the prompt and in the continuation of each; `true_mood` is the recording's."""
    assert model.voice is not None
    answers = [Speech(model.speak(one.segments), model.voice.sample_rate) for one in told]
    both = heard([*(one.prompt for one in told), *answers], judges)
    return [
        {
            "story": one.document.id,
            "speaker": one.document.speaker,
            "true_mood": one.document.custom.get("mood", ""),
            "prompt": both[number],
            "continuation": both[len(told) + number],
        }
        for number, one in enumerate(told)
    ]


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How often the mood is that of the prompt, as the classifier hears both, and how the pitches of both go together
    (correlation of their logarithms)."""
    found: dict[str, Any] = {"continuations": len(rows)}
    pairs = [(row["prompt"], row["continuation"]) for row in rows]
    if moods := [(one["mood"], other["mood"]) for one, other in pairs if "mood" in one]:
        kept = np.array([one == other for one, other in moods], dtype=float)
        found["mood_kept"] = as_json(ratio(kept, np.ones_like(kept)))
    pitches = np.array([(one["pitch"], other["pitch"]) for one, other in pairs if one["pitch"] and other["pitch"]])
    if len(pitches) > 2:
        found["pitch_correlation"] = round(float(np.corrcoef(np.log(pitches).T)[0, 1]), 3)
    return found


if __name__ == "__main__":
    run_program("generate", GenerateRecipe, generate, __doc__)
