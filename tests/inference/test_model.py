from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from spiritlm.errors import InputError
from spiritlm.inference.model import SpeechTextLM, load_language_model
from spiritlm.inference.pieces import banned_ids
from spiritlm.inference.request import Request, Sampling, Speech, greedy
from spiritlm.inference.speaking import Manner
from spiritlm.inference.transcript import transcript
from spiritlm.synthesis.regression import ModelShape, RegressionConfig, RegressionDecoder, UnitToMel
from spiritlm.synthesis.unit_decoder import UnitDecoder, UnitDecoderConfig
from spiritlm.synthesis.unit_hifigan import UnitHifigan, UnitHifiganShape
from spiritlm.tokens.documents import Segment
from spiritlm.tokens.interleave import SPEECH, TEXT, deduplicate
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.streams import Prosody
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import FEATURES, MfccKmeansTokenizer

RATE = 16000
SOUND = Speech(np.sin(np.arange(RATE) * 0.05).astype(np.float32) * np.linspace(0, 1, RATE, dtype=np.float32), RATE)


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> SpeechTextLM:
    """Random weights everywhere."""
    torch.manual_seed(0)
    llama = LlamaConfig(
        vocab_size=vocabulary.padded_size, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=256,
    )  # fmt: skip
    ears = MfccKmeansTokenizer(np.random.default_rng(0).normal(size=(50, FEATURES)).astype(np.float32))
    shape = ModelShape(width=16, unit_blocks=1, frame_blocks=1)
    config = RegressionConfig(vocabulary_size=50, speakers=("a", "b"), frames_per_unit=4, shape=shape)
    voice = RegressionDecoder(UnitToMel(config), config)
    return SpeechTextLM(LlamaForCausalLM(llama), vocabulary, ears, voice)


def test_a_marker_stands_at_each_change_and_before_the_asked_output(model: SpeechTextLM) -> None:
    v = model.vocabulary
    units = v.encode_units(deduplicate(model.ears.encode(SOUND.wave, RATE).semantic.values)[0]).tolist()
    text = [*v.opening(TEXT), *v.encode_text("Tom went to"), *v.encode_text("the lake.")]
    mixed = [v.bos, *text, *v.opening(SPEECH), *units]
    prompt = ["Tom went to", "the lake.", SOUND]
    assert model.prompt_ids(prompt, "any") == mixed
    assert model.prompt_ids(prompt, "speech") == mixed
    assert model.prompt_ids(prompt, "text") == [*mixed, *v.opening(TEXT)]
    assert model.prompt_ids(["Tom went to", "the lake."], "speech") == [v.bos, *text, *v.opening(SPEECH)]


@pytest.mark.parametrize(("output", "allowed"), [("text", {TEXT}), ("speech", {SPEECH}), ("any", {TEXT, SPEECH})])
def test_only_the_asked_modality_comes_out(model: SpeechTextLM, output: str, allowed: set[int]) -> None:
    samplings = [Sampling(max_new_tokens=30, temperature=2.0, top_p=1.0, seed=seed) for seed in range(5)]
    answers = dict(model.generate_many([Request(["Tom went"], output, sampling) for sampling in samplings]))
    found = {segment.modality for segments in answers.values() for segment in segments}
    assert found == allowed - ({SPEECH} if output == "any" else set())  # of random weights only short pieces
    banned = set(banned_ids(output, "continue", model.vocabulary))
    assert model.vocabulary.eos not in banned
    assert model.vocabulary.bos in banned
    assert banned >= set(range(model.vocabulary.size, model.vocabulary.padded_size))


def test_speech_segments_become_one_waveform(model: SpeechTextLM) -> None:
    segments = model.generate([SOUND], "speech", Sampling(max_new_tokens=20, temperature=2.0, seed=1))
    wave = model.speak(segments, Manner("b"))
    assert wave.dtype == np.float32
    assert len(wave) >= 640 * sum(len(s.units) for s in segments)
    assert not len(model.speak([]))
    assert transcript(segments) == " ".join(f"[{len(s.units)} units of speech]" for s in segments)
    assert transcript([]) == "(nothing)"


def test_greedy_does_not_depend_on_the_seed(model: SpeechTextLM) -> None:
    said = [transcript(model.generate(["Tom"], "text", Sampling(10, temperature=0, seed=seed))) for seed in (1, 2)]
    assert said[0] == said[1]


def test_what_cannot_be_continued_is_refused(model: SpeechTextLM, tmp_path: Path) -> None:
    for prompt, output, message in (([], "any", "prompt is empty"), (["a"], "song", "expected one of")):
        with pytest.raises(InputError, match=message):
            model.generate(prompt, output, Sampling())
    with pytest.raises(InputError, match="at most 256 fit"):
        model.generate(["Tom"], "text", Sampling(max_new_tokens=300))
    with pytest.raises(InputError, match="not a whole exported model"):
        load_language_model(tmp_path)


def test_without_a_voice_it_writes_and_does_not_speak(model: SpeechTextLM) -> None:
    mute = SpeechTextLM(model.model, model.vocabulary, model.ears, None)
    written = mute.generate(["Tom went"], "text", Sampling(max_new_tokens=5, temperature=0))
    assert len(mute.speak(written)) == 0
    spoken = mute.generate(["Tom went"], "speech", Sampling(max_new_tokens=20, temperature=2.0, top_p=1.0))
    with pytest.raises(InputError, match="no voice to speak with"):
        mute.speak(spoken)


def test_an_expressive_voice_is_told_the_pitch_and_style_that_were_generated(model: SpeechTextLM) -> None:
    shape = UnitHifiganShape(
        units=50, pitch_units=5, style_units=4, speakers=0, embedding=8, channels=16, up_rates=(4, 4),
        up_kernels=(8, 8), kernels=(3,), dilations=((1,),), duration_width=0,
    )  # fmt: skip
    torch.manual_seed(0)
    config = UnitDecoderConfig(
        shape=shape, speakers=("one",), styles=("happy", "sad"), style_units=(3, 1), pitch_hertz=(0, 100, 120, 0, 0)
    )
    voice = UnitDecoder(UnitHifigan(shape), config)
    speaking = SpeechTextLM(model.model, model.vocabulary, model.ears, voice)
    units = np.array([3, 14, 15])
    told = Prosody(np.array([1, 1, 2]), np.array([0, 3, 3]))
    said = [Segment(TEXT, "Tom", units[:0]), Segment(SPEECH, "", units, told)]
    assert np.array_equal(speaking.speak(said), voice.decode(units, prosody=told))
    assert np.array_equal(speaking.speak(said, Manner(style="sad")), voice.decode(units, style="sad", prosody=told))
    higher = voice.decode(units, prosody=told._replace(pitch=np.array([2, 2, 2])))
    assert np.array_equal(speaking.speak(said, Manner(pitch_shift=3)), higher)
    with pytest.raises(InputError, match="is told the pitch and style"):
        speaking.speak([Segment(SPEECH, "", units)])


def words_and_speech(model: SpeechTextLM, seeds: int, shortest: int) -> list[Request]:
    """Random weights turn from text to speech at nearly every token: only short pieces of speech."""
    assert model.shortest == shortest
    return [Request(["Tom"], "any", Sampling(60, temperature=2.0, top_p=1.0, seed=seed)) for seed in range(seeds)]


def test_where_either_may_come_short_pieces_of_speech_are_left_out(model: SpeechTextLM) -> None:
    for request in words_and_speech(model, seeds=4, shortest=25):
        kept = model.generate(request.prompt, "any", request.sampling)
        assert not [s for s in kept if s.modality == SPEECH and len(s.units) < 25]
        assert "".join(s.text for s in kept)
        assert not [said for said in model.stream(request) if said.modality == SPEECH]


@pytest.mark.parametrize("output", ["text", "speech"])
def test_what_is_streamed_is_what_is_generated(model: SpeechTextLM, output: str) -> None:
    for seed in range(3):
        request = Request(["Tom went", SOUND], output, Sampling(40, temperature=1.5, seed=seed))
        segments = model.generate(request.prompt, output, request.sampling)
        said = list(model.stream(request, Manner("b")))
        wave = np.concatenate([np.zeros(0, np.float32), *(piece.wave for piece in said)])
        assert np.allclose(wave, model.speak(segments, Manner("b")), atol=1e-5)
        assert "".join(piece.text for piece in said) == "".join(segment.text for segment in segments)
        assert all(not piece.text or piece.text == said[-1].text or len(piece.text.split()) for piece in said)


def test_a_voice_that_streams_speaks_before_the_answer_has_ended(model: SpeechTextLM) -> None:
    shape = UnitHifiganShape(
        units=50, pitch_units=0, style_units=0, speakers=0, embedding=8, channels=16, up_rates=(4, 4),
        up_kernels=(8, 8), kernels=(3,), dilations=((1,),), duration_width=0,
    )  # fmt: skip
    torch.manual_seed(0)
    voice = UnitDecoder(UnitHifigan(shape), UnitDecoderConfig(shape=shape, speakers=("one",)))
    speaking = SpeechTextLM(model.model, model.vocabulary, model.ears, voice)
    request = Request([SOUND], "speech", Sampling(80, temperature=2.0, top_p=1.0, seed=3))
    segments = speaking.generate(request.prompt, "speech", request.sampling)
    said = [piece.wave for piece in speaking.stream(request)]
    assert len(said) > 3
    assert np.allclose(np.concatenate(said), speaking.speak(segments), atol=1e-5)


def test_tasks_end_their_prompts_as_pairs_of_training_do(model: SpeechTextLM, text_model: bytes) -> None:
    text = SentencePieceText(text_model)
    tagged = Vocabulary(text, spirit(text.size, {"semantic": 50}, text.bos, text.eos, tasks=("[ASR]", "[TTS]")))
    other = SpeechTextLM(model.model, tagged, model.ears, model.voice)
    heard = other.prompt_ids([SOUND], "text", "transcribe")
    assert heard[-1] == tagged.marker("[ASR]")
    assert heard[:-1] == other.prompt_ids([SOUND], "speech")
    assert other.prompt_ids(["Tom"], "speech", "read")[-1] == tagged.marker("[TTS]")
    shown = other.prompt_ids(
        [SOUND, "Tom went", SOUND], "text", "transcribe"
    )  # an example is marked as the question is
    assert shown.count(tagged.marker("[ASR]")) == 2
    assert shown.count(tagged.opening(SPEECH)[0]) == 2 and tagged.opening(TEXT)[0] not in shown
    assert model.prompt_ids([SOUND], "text", "transcribe") == model.prompt_ids([SOUND], "text")
    assert other.token_prompts([Request([SOUND], "text", greedy(9), "transcribe")])[0].ends == [
        tagged.eos, *tagged.opening(SPEECH),
    ]  # fmt: skip


def test_many_recordings_are_written_down_as_each_alone(model: SpeechTextLM) -> None:
    sounds = [SOUND, Speech(SOUND.wave[:9000], RATE), Speech(SOUND.wave[4000:], RATE)]
    assert model.transcribe(sounds) == [model.transcribe([sound])[0] for sound in sounds]
    (said,) = model.read_aloud(["Tom went to the lake."])
    assert {segment.modality for segment in said} <= {SPEECH}
    with pytest.raises(InputError, match=r"its prompt has \d+ tokens, at most 256"):
        model.transcribe([Speech(np.random.default_rng(0).uniform(-1, 1, 12 * RATE).astype(np.float32), RATE)])


def test_texts_parted_by_speech_are_parted_in_a_stream_too(model: SpeechTextLM) -> None:
    """Whether what parts them is spoken or too short to be."""
    parted = 0
    for seed in range(8):
        request = Request(["Tom"], "any", Sampling(60, temperature=2.0, top_p=1.0, seed=seed))
        segments = [segment for segment in model.generate(request.prompt, "any", request.sampling) if segment.text]
        said = "".join(piece.text for piece in model.stream(request))
        assert said == " ".join(segment.text for segment in segments)
        parted += len(segments) > 1
    assert parted


def test_a_sound_is_heard_once_however_often_it_is_asked_about(model: SpeechTextLM) -> None:
    class Counting:
        def __init__(self) -> None:
            self.heard = 0
            self.rate, self.sample_rate, self.streams = model.ears.rate, model.ears.sample_rate, model.ears.streams

        def encode_batch(self, waves: list[np.ndarray], rate: int) -> list:
            self.heard += len(waves)
            return model.ears.encode_batch(waves, rate)

    ears = Counting()
    other = SpeechTextLM(model.model, model.vocabulary, ears, model.voice)  # type: ignore[arg-type]
    requests = [Request(["Tom", SOUND, SOUND], "text", Sampling(3, seed=seed)) for seed in range(5)]
    assert dict(other.generate_many(requests)).keys() == set(range(5))
    assert ears.heard == 1
    other.transcribe([SOUND])
    assert ears.heard == 2


def test_what_is_no_prompt_is_refused_with_what_is_one(model: SpeechTextLM, tmp_path: Path) -> None:
    for wrong in ("Tom went", [tmp_path / "story.wav"], [3]):
        with pytest.raises(InputError, match=r"expected a list of text \(str\) and Speech"):
            model.generate(wrong, "text", greedy(3))  # type: ignore[arg-type]
    for wrong in (SOUND, ["story.wav"]):
        with pytest.raises(InputError, match="expected a list of Speech"):
            model.transcribe(wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a wave of int16: expected float32"):
        model.transcribe([Speech((SOUND.wave * 32767).astype(np.int16), RATE)])
