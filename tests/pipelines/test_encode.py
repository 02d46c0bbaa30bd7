"""Recordings and their word times become documents; what cannot be used is named."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spiritlm.audio.files import read_audio, write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, read_manifest
from spiritlm.corpus.store import Record
from spiritlm.pipelines.encode import EncodeSpeech
from spiritlm.pipelines.shards import Rejected
from spiritlm.tokens.documents import words_of
from spiritlm.tokens.emit import Document
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer
from spiritlm.units.protocol import SpeechTokenizer

RATE = 16000
Encoded = list[tuple[Record, Document] | Rejected]


@pytest.fixture(scope="module")
def ears(stages: Path) -> SpeechTokenizer:
    return load_speech_tokenizer(stages / "units" / "model")


@pytest.fixture
def speech(stages: Path, tmp_path: Path, vocabulary: Vocabulary) -> Path:
    """A corpus to spoil, and a vocabulary beside it."""
    vocabulary.save(tmp_path / "store")
    return Path(shutil.copytree(stages / "speech", tmp_path / "speech"))


def encode(speech: Path, stages: Path, documents: Sequence[SpokenDocument], untranscribed: bool = False) -> Encoded:
    model, store = stages / "units" / "model", speech.parent / "store"
    return list(EncodeSpeech(speech, model, store, 5.0, untranscribed).run(documents))


def moved(document: SpokenDocument, sentence: int, seconds: float) -> SpokenDocument:
    """One sentence said at another time."""
    one = document.sentences[sentence]
    words = [Word(word.text, word.start + seconds, word.end + seconds) for word in one.words]
    sentences = list(document.sentences)
    sentences[sentence] = Sentence.of_words(words)
    return replace(document, sentences=tuple(sentences))


def test_a_document_holds_the_words_and_units_of_its_recording(
    speech: Path, stages: Path, ears: SpeechTokenizer, vocabulary: Vocabulary
) -> None:
    sources = read_manifest(speech, "train")
    for source, (record, document) in zip(sources, encode(speech, stages, sources), strict=True):
        wave = read_audio(speech / source.audio, RATE)
        expected = Record(source.id, source.speaker, str(source.audio), 0.0, source.duration)
        assert record == expected
        np.testing.assert_array_equal(document.semantic, ears.encode(wave, RATE).semantic.values)
        assert vocabulary.decode_text(document.text) == source.text
        words = [word for sentence in source.sentences for word in sentence.words]
        table = document.words.reshape(-1, 3)
        assert len(table) == len(words)
        for number, word in enumerate(words):
            end = table[number + 1, 0] if number + 1 < len(table) else len(document.text)
            assert document.text[table[number, 0] : end].tolist() == vocabulary.encode_text(word.text)
        np.testing.assert_allclose(table[:, 1] / 25, [word.start for word in words], atol=0.0201)
        np.testing.assert_allclose(table[:, 2] / 25, [word.end for word in words], atol=0.0201)
        firsts = np.cumsum([0, *(len(sentence.words) for sentence in source.sentences)])[:-1]
        assert document.sentences.tolist() == firsts.tolist()
        assert not len(document.pitch) and not len(document.style)


def test_what_cannot_be_used_is_rejected_with_its_reason(speech: Path, stages: Path) -> None:
    sources = read_manifest(speech, "train")
    good = sources[0]
    one, two = good.sentences[0].words[:2]
    wave = read_audio(speech / good.audio, RATE)
    (speech / "wav" / "text.wav").write_text("not audio")
    write_wav(speech / "wav" / "short.wav", wave[: 2 * RATE], RATE)
    write_wav(speech / "wav" / "empty.wav", wave[:0], RATE)
    swapped = Sentence(good.sentences[0].text, 0.0, 1.0, (two, one))
    cases = {
        "late": (moved(good, -1, 20.0), "word times do not lie within"),
        "a bit late": (moved(good, -1, good.duration - good.sentences[-1].end + 0.06), "word times do not lie within"),
        "early": (moved(good, 0, -0.5), "word times do not lie within"),
        "disorder": (replace(good, sentences=(swapped, *good.sentences[1:])), "word times are not in order"),
        "backwards": (replace(good, sentences=(Sentence("a", 2.0, 1.0, (Word("a", 2.0, 1.0),)),)), "not in order"),
        "silent": (replace(good, sentences=(Sentence("", 0.0, 1.0), Sentence(" ", 1.0, 2.0))), "empty transcript"),
        "text": (replace(good, audio=Path("wav/text.wav")), "text.wav"),
        "absent": (replace(good, audio=Path("wav/absent.wav")), "absent.wav"),
        "empty": (replace(good, audio=Path("wav/empty.wav")), "empty.wav: expected an audio file with samples"),
        "short": (replace(good, audio=Path("wav/short.wav")), "its sound ends after 2.00 s"),
    }
    documents = [replace(document, id=id) for id, (document, _) in cases.items()]
    found = encode(speech, stages, [good, *documents, sources[1]])
    assert [item[0].id for item in (found[0], found[-1]) if not isinstance(item, Rejected)] == [good.id, sources[1].id]
    for item, (id, (_, reason)) in zip(found[1:-1], cases.items(), strict=True):
        assert isinstance(item, Rejected), id
        assert item.item == id
        assert reason in item.reason, item


def test_a_long_pause_makes_two_documents(
    speech: Path, stages: Path, ears: SpeechTokenizer, vocabulary: Vocabulary
) -> None:
    (source,) = [document for document in read_manifest(speech, "train") if document.id == "train-0"]
    wave, cut = read_audio(speech / source.audio, RATE), source.sentences[1].start - 0.1
    pause = np.zeros(8 * RATE, np.float32)
    write_wav(speech / source.audio, np.concatenate([wave[: int(cut * RATE)], pause, wave[int(cut * RATE) :]]), RATE)
    paused = moved(moved(replace(source, duration=source.duration + 8), 1, 8.0), 2, 8.0)
    found = encode(speech, stages, [paused])
    said = ""
    for number, (record, document) in enumerate(found):  # type: ignore[misc]
        assert record.id == f"train-0-{number:04d}"
        part = read_audio(speech / source.audio, RATE)
        start = round(record.start * RATE)
        part = part[start : start + round(record.duration * RATE)]
        np.testing.assert_array_equal(document.semantic, ears.encode(part, RATE).semantic.values)
        said += " " + vocabulary.decode_text(document.text)
        assert document.sentences[0] == 0
    assert len(found) == 2
    assert said.strip() == source.text


def test_untranscribed_recordings_become_a_document_a_stretch(
    speech: Path, stages: Path, ears: SpeechTokenizer
) -> None:
    sources = read_manifest(speech, "train")
    silent = replace(sources[0], sentences=(Sentence("", 0.5, 2.0), Sentence("", 2.5, 99.0)))
    (rejected,) = encode(speech, stages, [silent])
    assert isinstance(rejected, Rejected)
    assert (rejected.item, rejected.reason.split(" (")[0]) == ("train-0", "empty transcript")
    *found, transcribed = encode(speech, stages, [silent, sources[1]], untranscribed=True)
    wave = read_audio(speech / silent.audio, RATE)
    bounds = [(0.5, 2.0), (2.5, silent.duration)]
    assert len(found) == 2
    for number, ((record, document), (start, end)) in enumerate(zip(found, bounds, strict=True)):  # type: ignore[misc]
        assert (record.id, record.start) == (f"train-0-{number:04d}", start)
        assert record.duration == pytest.approx(end - start)
        expected = ears.encode(wave[round(start * RATE) : round(end * RATE)], RATE).semantic.values
        np.testing.assert_array_equal(document.semantic, expected)
        assert not len(document.text) and not words_of(document) and not len(document.sentences)
    assert not isinstance(transcribed, Rejected)
    assert words_of(transcribed[1])


def test_a_sentence_that_nobody_aligned_is_one_long_word(speech: Path, stages: Path, vocabulary: Vocabulary) -> None:
    (source, *_) = read_manifest(speech, "train")
    first, *rest = source.sentences
    ((_, document),) = encode(speech, stages, [replace(source, sentences=(replace(first, words=()), *rest))])  # type: ignore[misc]
    table = document.words.reshape(-1, 3)
    assert len(table) == 1 + sum(len(sentence.words) for sentence in rest)
    assert document.text[: table[1, 0]].tolist() == vocabulary.encode_text(first.text)
    assert document.sentences.tolist() == [0, 1, 1 + len(rest[0].words)]
