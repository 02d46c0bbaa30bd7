import copy
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.audio.files import write_wav
from spiritlm.engine.checkpoint import save_main_weights
from spiritlm.engine.export import export_checkpoint
from spiritlm.engine.model import ModelConfig, build_chunks
from spiritlm.engine.parallel import process_groups
from spiritlm.engine.start import starting_weights, write_shape
from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.run.checkpoints import CheckpointPolicy, Checkpoints
from spiritlm.scoring.models import ExportedModel
from spiritlm.scoring.protocol import Question, Request, Sound, SpeechTextModel
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel
from spiritlm.tokens.interleave import SPEECH, TEXT, deduplicate
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer
from spiritlm.units.protocol import UnitStreams

RATE = 16000
STORY, RIGHT, WRONG = "Tom went to the lake.", "Tom was sad.", "The rain came soon."


def ears() -> MfccKmeansTokenizer:
    return MfccKmeansTokenizer(np.random.default_rng(0).normal(size=(50, FEATURES)).astype(np.float32))


@pytest.fixture(scope="module")
def folder(vocabulary: Vocabulary, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported model of random weights."""
    torch.manual_seed(0)
    folder: Path = tmp_path_factory.mktemp("model")
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=256, initializer_range=0.1,
    )  # fmt: skip
    LlamaForCausalLM(llama).save_pretrained(folder)
    vocabulary.save(folder)
    ears().save_pretrained(folder / "speech_tokenizer")
    shape = ModelShape(width=16, unit_blocks=1, frame_blocks=1)
    config = RegressionConfig(vocabulary_size=50, speakers=("a",), frames_per_unit=4, shape=shape)
    RegressionDecoder(UnitToMel(config), config).save_pretrained(folder / "voice")
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> ExportedModel:
    return ExportedModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> list[Sound]:
    """Noises of four lengths; the last two as bytes."""
    root, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    found = []
    for number, seconds in enumerate((1.2, 0.4, 0.7, 0.5)):
        path = root / f"{number}.wav"
        write_wav(path, 0.1 * rng.standard_normal(int(RATE * seconds)), RATE)
        found.append(Sound(f"noise {number}", path.read_bytes() if number > 1 else path))
    return found


def units(sound: Sound, vocabulary: Vocabulary) -> list[int]:
    return vocabulary.encode_units(deduplicate(ears().encode(sound.read(RATE), RATE).semantic.values)[0]).tolist()


def test_a_request_is_read_as_a_training_sequence_is(model: ExportedModel, sounds: list[Sound]) -> None:
    v = model.vocabulary
    story, right, heard, told = v.encode_text(STORY), v.encode_text(RIGHT), *(units(s, v) for s in sounds[:2])
    text, speech = v.opening(TEXT), v.opening(SPEECH)
    cases = {
        ((STORY,), (RIGHT,)): ([v.bos, *text, *story], right, None),
        ((sounds[0],), (sounds[1],)): ([v.bos, *speech, *heard], told, None),
        ((STORY,), (sounds[1],)): ([v.bos, *text, *story, *speech], told, None),
        ((sounds[0],), (RIGHT,)): ([v.bos, *speech, *heard, *text], right, None),
        ((sounds[0], STORY), (RIGHT,)): ([v.bos, *speech, *heard, *text, *story], right, None),
        ((), (STORY, RIGHT)): ([v.bos, *text], story + right, None),
        ((), (sounds[0], RIGHT)): (
            [v.bos, *speech],
            [*heard, *text, *right],
            [True] * len(heard) + [False] * len(text) + [True] * len(right),
        ),
    }
    for (prompt, continuation), expected in cases.items():
        found = model.tokens(Request(prompt, continuation))
        assert found.prompt.tolist() == expected[0]
        assert found.continuation.tolist() == expected[1]
        assert (found.scored if found.scored is None else found.scored.tolist()) == expected[2]


def test_scores_are_those_of_the_tokens(model: ExportedModel, sounds: list[Sound]) -> None:
    speaking: SpeechTextModel = model
    requests = [
        Request(prompt, (ending,))
        for prompt in ((STORY,), (sounds[0],), (sounds[2], STORY), ())
        for ending in (RIGHT, WRONG, sounds[1], sounds[3])
    ] + [Request((), (sounds[0], RIGHT))]
    exact = copy.deepcopy(model.model).double()
    known = np.arange(model.vocabulary.padded_size)
    for request, score in zip(requests, speaking.loglikelihood(requests), strict=True):
        tokens = model.tokens(request)
        with torch.inference_mode():
            logits = exact(input_ids=torch.from_numpy(tokens.ids)[None]).logits[0]
        same = [v(known) for v in (model.vocabulary.is_text, model.vocabulary.is_speech)]
        total = restricted = 0.0
        for place in tokens.targets:
            own = next(modality for modality in same if modality[tokens.ids[place]])
            total += float(logits[place - 1].log_softmax(-1)[tokens.ids[place]])
            restricted += float(logits[place - 1, tokens.ids[place]] - logits[place - 1, own].logsumexp(-1))
        assert score.tokens == len(tokens.targets)
        assert score.total / score.tokens == pytest.approx(total / score.tokens, abs=1e-6)
        assert score.restricted is not None
        assert score.restricted / score.tokens == pytest.approx(restricted / score.tokens, abs=1e-6)
        assert score.restricted > score.total


def test_a_sound_is_encoded_once_and_those_of_a_call_together(folder: Path, sounds: list[Sound]) -> None:
    batches: list[list[int]] = []

    class Counting(MfccKmeansTokenizer):
        def encode_batch(self, waves: list[np.ndarray], sample_rate: int) -> list[UnitStreams]:
            batches.append([len(wave) for wave in waves])
            return super().encode_batch(waves, sample_rate)

    exported = ExportedModel.from_pretrained(folder)
    model = ExportedModel(exported.model, exported.vocabulary, Counting(ears().centroids), {})
    again = [Sound("the same", sound.source) for sound in sounds]
    requests = [Request((sounds[0],), (ending,)) for ending in (*sounds[1:], *again[1:])]
    model.tokens_of(requests)
    first = model.loglikelihood(requests)
    assert batches == [sorted(len(sound.read(RATE)) for sound in sounds)]
    turned = model.loglikelihood(requests[::-1])[::-1]
    assert [score.total for score in turned] == pytest.approx([score.total for score in first], abs=1e-5)
    model.tokens(requests[0])
    assert len(batches) == 1


def test_what_cannot_be_heard_or_scored_is_called_by_its_name(
    model: ExportedModel, folder: Path, sounds: list[Sound], tmp_path: Path
) -> None:
    short = tmp_path / "short.wav"
    write_wav(short, np.zeros(4), RATE)
    cases = {
        "nine: expected an audio file, but there is none": Request((), (Sound("nine", tmp_path / "9.wav"),)),
        "ten: expected an audio file": Request((), (Sound("ten", b"no sound"),)),
        "'Tom': nothing to score": Request(("Tom",), (" ",)),
        r"noise 1: \d+ tokens, at most the 256": Request((" ".join([STORY] * 40),), (sounds[1],)),
        r"'Tom went to the lake. .*': \d+ tokens, at most the 256": Request((" ".join([STORY] * 40),), (RIGHT,)),
    }
    for message, request in cases.items():
        with pytest.raises(InputError, match=f"^{message}") as caught:
            model.loglikelihood([Request((STORY,), (RIGHT,)), request])
        assert "\n" not in str(caught.value)
    deaf = ExportedModel(model.model, model.vocabulary, None, {})
    assert deaf.loglikelihood([Request((STORY,), (RIGHT,))]) == model.loglikelihood([Request((STORY,), (RIGHT,))])
    with pytest.raises(InputError, match="noise 0: the model cannot hear it"):
        deaf.loglikelihood([Request((sounds[0],), (RIGHT,))])
    with pytest.raises(InputError, match=re.escape(f"{tmp_path}: expected the folder of an exported model")):
        ExportedModel.from_pretrained(tmp_path)


def test_answers_are_of_the_asked_modality_and_in_order(model: ExportedModel, sounds: list[Sound]) -> None:
    questions = [
        Question(prompt, output, greedy(most))
        for prompt in ((STORY,), (sounds[0],), (sounds[1], RIGHT), ())
        for output in ("text", "speech")
        for most in (3, 9)
    ]
    answers = model.generate(questions)
    for question, answer in zip(questions, answers, strict=True):
        (alone,) = model.generate([question])
        if question.output == "text":
            assert isinstance(answer, str)
            assert answer == alone
        else:
            assert isinstance(answer, Speech)
            assert isinstance(alone, Speech)
            assert np.array_equal(answer.wave, alone.wave)
            assert len(answer.wave) <= question.sampling.max_new_tokens * 4 * 640
    assert any(len(answer) for question, answer in zip(questions, answers, strict=True) if question.output == "text")
    assert any(isinstance(answer, Speech) and len(answer.wave) for answer in answers)
    with pytest.raises(InputError, match=r"^noise 0: \d+ tokens, at most the 256"):
        model.generate([Question((sounds[0],), "text", greedy(250))])


def test_identity_tells_weights_vocabulary_and_ears_and_not_the_place(
    model: ExportedModel, folder: Path, tmp_path: Path, expressive_vocabulary: Vocabulary
) -> None:
    shutil.copytree(folder, tmp_path / "copy")
    assert ExportedModel.from_pretrained(tmp_path / "copy").identity == model.identity
    assert set(model.identity) == {"weights", "vocabulary", "speech_tokenizer", "voice"}
    other = MfccKmeansTokenizer(ears().centroids + 1)
    other.save_pretrained(tmp_path / "copy" / "speech_tokenizer")
    changed = ExportedModel.from_pretrained(tmp_path / "copy").identity
    assert {name for name in changed if changed[name] != model.identity[name]} == {"speech_tokenizer"}
    shutil.rmtree(tmp_path / "copy" / "speech_tokenizer")
    assert ExportedModel.from_pretrained(tmp_path / "copy").identity["speech_tokenizer"] == "none"


def test_a_checkpoint_is_scored_as_its_export(vocabulary: Vocabulary, tmp_path: Path, sounds: list[Sound]) -> None:
    config = ModelConfig(
        hidden_size=32, layers=2, heads=2, kv_heads=1, ffn_hidden_size=48, max_position_embeddings=128, init_std=0.1
    )
    run = tmp_path / "run"
    vocabulary.save(run)
    write_shape(run, config, vocabulary.padded_size)
    checkpoints = Checkpoints(run / "checkpoints", CheckpointPolicy())
    with process_groups(seed=0):
        chunks = build_chunks(config, vocabulary.padded_size, "fp32")
        for step in (1, 2):
            starting_weights(config, None, vocabulary, seed=step)(chunks)
            save_main_weights(checkpoints, step, chunks, {"vocabulary": vocabulary.hash})
    export_checkpoint(run, tmp_path / "exported", None)
    ears().save_pretrained(tmp_path / "ears")
    ears().save_pretrained(tmp_path / "exported" / "speech_tokenizer")
    requests = [Request((STORY,), (RIGHT,)), Request((sounds[0],), (WRONG,)), Request((), (sounds[1],))]
    exported = ExportedModel.from_pretrained(tmp_path / "exported")
    trained = ExportedModel.from_checkpoint(run, tmp_path / "ears")
    assert trained.identity == exported.identity
    assert trained.loglikelihood(requests) == exported.loglikelihood(requests)
    first = ExportedModel.from_checkpoint(run / "checkpoints" / "step-00000001")
    assert first.identity["weights"] != exported.identity["weights"]
    assert first.loglikelihood(requests[:1]) != exported.loglikelihood(requests[:1])
    with pytest.raises(InputError, match="expected the folder of a run that trained a model"):
        ExportedModel.from_checkpoint(tmp_path / "exported")
