"""Rows of a mixture: each a pure function of its position, every token of known origin."""

import copy
import pickle
import time
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.audio.files import read_audio
from spiritlm.corpus.datasets import (
    BLEND_BLOCK,
    Kind,
    MixedDataset,
    Origin,
    PackedSample,
    SourceRecipe,
    dev_samples,
    unigram_entropy,
)
from spiritlm.corpus.manifest import read_manifest
from spiritlm.corpus.plan import shuffled
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.errors import InputError
from spiritlm.pipelines.encode import EncodeSpeech
from spiritlm.tokens.documents import compose, whole
from spiritlm.tokens.emit import SEMANTIC, Document, document_of
from spiritlm.tokens.interleave import SPEECH, TEXT
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.loading import load_speech_tokenizer

ALL_KINDS = get_args(Kind)
RATES = {"semantic": 25.0, "pitch": 12.5, "style": 1.0}
Named = list[tuple[Record, Document]]


def source(kind: str, share: float = 1.0, split: str = "train", store: str = "main") -> SourceRecipe:
    return SourceRecipe(
        kind=kind, share=share, split=split, store=store, text_words=(2, 6), speech_words=(2, 5), poisson_mean=3,
        spoken_share=0.4, sentences=(1, 2),
    )  # fmt: skip


def dataset(
    store: Path, *sources: SourceRecipe, seed: int = 0, length: int = 64, plan: Path | None = None
) -> MixedDataset:
    return MixedDataset({"main": store}, sources or [source("spans")], length, seed, plan)


def mixture(store: Path, seed: int = 0, plan: Path | None = None) -> MixedDataset:
    return dataset(store, *(source(kind, share) for kind, share in (("text", 2), ("spans", 1), ("asr", 0.5))),
                   seed=seed, plan=plan)  # fmt: skip


def same(one: PackedSample, two: PackedSample) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in vars(one))


def rows_of(data: MixedDataset, epoch: int = 0) -> range:
    """Positions of one epoch of a dataset with one source."""
    (plans,) = [one.plans for one in data.sources]
    row = 0
    for _ in range(epoch):
        plan = plans.of_row(row)[1]
        row = plan.first_row + len(plan)
    return range(row, row + len(plans.of_row(row)[1]))


def told(data: MixedDataset, epoch: int = 0) -> Origin:
    """The origins of all labels of an epoch, padding left out, and of the `<s>` before the first."""
    origins = [data.origin(position) for position in rows_of(data, epoch)]
    names = ("ids", "document", "word", "frame")
    parts = {name: [getattr(origins[0], name)[:1], *(getattr(o, name)[1:] for o in origins)] for name in names}
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    known = joined["document"] >= 0
    return Origin(*(joined[name][known] for name in names))


# what a row is


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_labels_follow_inputs_and_begins_are_marked(store: Path, task_vocabulary: Vocabulary, kind: str) -> None:
    data, bos = dataset(store, source(kind)), task_vocabulary.bos
    for position in rows_of(data):
        row = data[position]
        np.testing.assert_array_equal(row.input_ids[1:], row.labels[:-1])
        assert {array.dtype for array in (row.input_ids, row.labels)} == {np.dtype(np.int64)}
        padded = data.origin(position).document[1:] < 0
        np.testing.assert_array_equal(row.loss_mask, (row.labels != bos) & ~padded)
        assert np.all(row.labels[padded] == task_vocabulary.eos)
        begins = {0, 64, *np.flatnonzero(row.input_ids == bos).tolist()}
        if padded.any():
            assert position == rows_of(data)[-1]
            assert padded[np.argmax(padded) :].all()
            begins.add(int(np.argmax(padded)) + 1)
        assert row.cu_seqlens.dtype == np.int32
        assert row.cu_seqlens.tolist() == sorted(begins)
        units = task_vocabulary.is_speech(row.labels)
        assert np.all(row.modality[units & ~padded] > TEXT)
        assert np.all(row.modality[task_vocabulary.is_text(row.labels)] == TEXT)
        assert np.all(row.modality[task_vocabulary.is_unit(row.labels)] == SEMANTIC)


def test_a_row_that_ends_with_its_document_has_no_empty_one(tmp_path: Path, task_vocabulary: Vocabulary) -> None:
    """Rows of exactly one or two documents, and one that ends a token before its row does."""
    task_vocabulary.save(tmp_path)
    for count, expected in ((1, [0, 4]), (2, [0, 4]), (3, [0, 4])):
        documents = [(Record(str(n)), document_of((7,))) for n in range(count)]  # <s> [Text] 7 </s>
        write_split(tmp_path, "train", documents, {}, task_vocabulary)
        data = dataset(tmp_path, source("text"), length=4)
        assert [len(rows_of(data)), *(data[p].cu_seqlens.tolist() for p in rows_of(data))][1] == expected
        assert len(rows_of(data)) == count
        last = data[count - 1]
        assert (last.labels == task_vocabulary.eos).sum() == 2
        assert last.loss_mask.tolist() == [1, 1, 1, 0]
    data = dataset(tmp_path, source("text"), length=6)
    assert [data[p].cu_seqlens.tolist() for p in rows_of(data)] == [[0, 4, 6], [0, 2, 6]]


# every token is there, once


def check_told_once(document: Document, written: list[int], heard: list[int], kind: str) -> None:
    """`written`: indices of text ids, `heard`: of semantic units. Each word in one way, or in both for pairs.

    A unit that equals the one before is left out, but for the first of a span.
    """
    assert len(set(written)) == len(written)
    assert len(set(heard)) == len(heard)
    semantic = document.semantic.astype(int)
    changes = {index for index in range(len(semantic)) if index == 0 or semantic[index] != semantic[index - 1]}
    words = document.words.reshape(-1, 3).tolist()
    begins = [(0, 0), *((text, unit) for text, unit, _ in words[1:]), (len(document.text), len(semantic))]
    for (first_id, first_unit), (end_id, end_unit) in pairwise(begins):
        ids, units = set(range(first_id, end_id)), set(range(first_unit, end_unit))
        due, found = units & changes, units & set(heard)
        is_written, is_heard = ids <= set(written), due <= found
        assert is_written or not ids & set(written)
        assert found - due <= {first_unit}
        if kind in ("asr", "tts"):
            assert is_written and is_heard
        elif kind in ("text", "speech"):
            assert (is_written, bool(found)) == ((kind == "text"), bool(due) and kind == "speech")
            assert is_heard or kind == "text"
        else:
            assert is_written != is_heard or not due
            assert is_heard or not found


@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_token_of_every_document_is_a_label_once(
    store: Path, documents: Named, task_vocabulary: Vocabulary, kind: str, epoch: int
) -> None:
    data = dataset(store, source(kind), length=50)
    origin = told(data, epoch)
    assert len(origin.ids) == data.sources[0].plans.of_row(rows_of(data, epoch)[0])[1].tokens
    written = task_vocabulary.is_text(origin.ids)
    heard = task_vocabulary.is_unit(origin.ids)
    for number, (_, document) in enumerate(documents):
        here = origin.document == number
        check_told_once(document, origin.frame[here & written].tolist(), origin.frame[here & heard].tolist(), kind)
        np.testing.assert_array_equal(origin.ids[here & written], document.text[origin.frame[here & written]])
    for stream in ("semantic", "pitch", "style"):
        units = task_vocabulary.is_unit(origin.ids, stream)
        expected = [
            getattr(documents[number][1], stream)[frame]
            for number, frame in zip(origin.document[units], origin.frame[units], strict=True)
        ]
        assert task_vocabulary.decode_units(origin.ids[units], stream).tolist() == expected
        assert units.any() or kind == "text"
    marks = (origin.frame < 0) & (origin.word == -1)
    assert np.all(marks == ~(written | task_vocabulary.is_speech(origin.ids)))


@pytest.mark.parametrize(("split", "kind"), [("texts", "text"), ("untold", "speech")])
def test_documents_without_words_are_there_once(
    store: Path, task_vocabulary: Vocabulary, split: str, kind: str
) -> None:
    origin, read = told(dataset(store, source(kind, split=split))), DocumentStore(store, split)
    for number, document in enumerate(read):
        expected = compose(document, whole(document, kind == "speech"), task_vocabulary, read.rates.tolist())
        np.testing.assert_array_equal(origin.ids[origin.document == number], expected.ids)


@pytest.mark.parametrize(("kind", "marker", "given"), [("asr", "[ASR]", SPEECH), ("tts", "[TTS]", TEXT)])
def test_a_pair_is_a_document_that_says_the_same_twice(
    store: Path, documents: Named, task_vocabulary: Vocabulary, kind: str, marker: str, given: int
) -> None:
    v, origin = task_vocabulary, told(dataset(store, source(kind)))
    begins = np.flatnonzero(origin.ids == v.bos)
    for start, end in pairwise([*begins, len(origin.ids)]):
        ids = origin.ids[start:end]
        (answer,) = np.flatnonzero(ids == v.marker(marker))
        assert ids[1] == v.opening(given)[0]
        assert (ids == v.eos).tolist() == [False] * (len(ids) - 1) + [True]
        document = documents[origin.document[start]][1]
        firsts = document.words[0::3]
        words = [origin.frame[start:end][v.is_text(ids)], origin.word[start:end][v.is_unit(ids)]]
        assert (answer < np.flatnonzero(v.is_text(ids))[0]) == (given == SPEECH)
        in_text = np.searchsorted(firsts, words[0], side="right") - 1
        in_speech = np.where(words[1] >= 0, words[1], -3 - words[1]).clip(0)
        assert in_text[0] in document.sentences
        assert in_text[0] <= in_speech.min()
        assert in_speech.max() <= in_text[-1]


# where tokens come from


@pytest.fixture(scope="module")
def recorded(stages: Path, text_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of synthesized recordings."""
    folder: Path = tmp_path_factory.mktemp("recorded")
    text = SentencePieceText(text_model)
    vocabulary = Vocabulary(text, spirit(text.size, {"semantic": 20}, text.bos, text.eos, ("[ASR]", "[TTS]")))
    vocabulary.save(folder)
    encode = EncodeSpeech(stages / "speech", stages / "units" / "model", folder, 5.0, False)
    found = list(encode.run(read_manifest(stages / "speech", "train")))
    write_split(folder, "train", found, {"semantic": 25.0}, vocabulary)
    return folder


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_token_is_traced_to_its_recording(stages: Path, recorded: Path, kind: str) -> None:
    """Semantic units to the frames of the wave and to the words' times, text to the words of the manifest."""
    data, ears = dataset(recorded, source(kind)), load_speech_tokenizer(stages / "units" / "model")
    store, vocabulary = DocumentStore(recorded, "train"), data.vocabulary
    corpus = {document.id: document for document in read_manifest(stages / "speech", "train")}
    heard = {
        record.id: ears.encode(read_audio(stages / "speech" / record.audio, 16000), 16000).semantic.values
        for record in store.records
    }
    seen: Counter[str] = Counter()
    for position in range(2 * len(rows_of(data))):
        origin = data.origin(position)
        for id, number, word, frame in zip(origin.ids, origin.document, origin.word, origin.frame, strict=True):
            if frame < 0:
                assert word == -1
                assert not vocabulary.is_text([id])[0] or number == -1
                continue
            record = store.record(number)
            words = [w for sentence in corpus[record.id].sentences for w in sentence.words]
            if vocabulary.is_text([id])[0]:
                before = sum(len(vocabulary.encode_text(w.text)) for w in words[:word])
                assert vocabulary.encode_text(words[word].text)[frame - before] == id
                seen["text"] += 1
                continue
            assert vocabulary.decode_units([id])[0] == heard[record.id][frame]
            middle, starts = (frame + 0.5) / 25, [*(w.start for w in words), np.inf]
            if word >= 0:
                assert words[word].start - 1e-9 <= middle < min(words[word].end, starts[word + 1]) + 1e-9
                seen["word"] += 1
            else:
                gap = -2 - word
                assert (words[gap - 1].end if gap else 0.0) - 1e-9 <= middle < starts[gap] + 1e-9
                seen["gap"] += 1
    assert set(seen) == {"text": {"text"}, "speech": {"word", "gap"}}.get(kind, {"text", "word", "gap"})


# position -> row


def test_a_row_is_a_pure_function_of_seed_and_position(store: Path) -> None:
    forward, backward = mixture(store), mixture(store)
    ahead = [forward[position] for position in range(200)]
    for position in np.random.default_rng(0).permutation(200).tolist():
        assert same(backward[position], ahead[position])
    assert same(mixture(store)[199], ahead[199])
    assert len({row.labels.tobytes() for row in ahead}) > 190  # written documents are the same in every epoch
    assert not any(same(mixture(store, seed=1)[position], ahead[position]) for position in range(20))


def test_a_resumed_run_reads_what_it_would_have_read(store: Path, tmp_path: Path) -> None:
    straight = [mixture(store)[position] for position in range(300)]
    first = mixture(store, plan=tmp_path)
    assert all(same(first[position], straight[position]) for position in range(120))
    resumed = mixture(store, plan=tmp_path)
    assert all(same(resumed[position], straight[position]) for position in range(120, 300))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3000), st.integers(0, 3))
def test_any_position_from_a_copy(store: Path, position: int, seed: int) -> None:
    data = mixture(store, seed)
    copied = pickle.loads(pickle.dumps(data))
    assert same(data[position], copied[position])
    one, two = data.origin(position), copied.origin(position)
    np.testing.assert_array_equal(one.ids[1:], data[position].labels)
    assert data.source_of(position) == copied.source_of(position)
    np.testing.assert_array_equal(one.document, two.document)


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize(("workers", "start"), [(0, None), (1, "fork"), (3, "fork"), (2, "forkserver"), (1, "spawn")])
def test_workers_read_the_same_rows(store: Path, tmp_path: Path, workers: int, start: str | None) -> None:
    expected = mixture(store)
    loader = torch.utils.data.DataLoader(
        mixture(store, plan=tmp_path), batch_size=None, sampler=range(20, 80), num_workers=workers,
        multiprocessing_context=start, collate_fn=copy.copy,
    )  # fmt: skip
    rows = list(loader)
    assert len(rows) == 60
    assert all(same(row, expected[position]) for position, row in enumerate(rows, start=20))


def test_the_next_epoch_is_planned_while_this_one_is_read(store: Path, tmp_path: Path) -> None:
    data, folder = dataset(store, plan=tmp_path), tmp_path / "0-spans-main-train"
    rows = len(rows_of(data))
    data[rows // 2 - 1]
    time.sleep(0.05)
    assert [path.name for path in folder.glob("epoch-*")] == ["epoch-00000"]
    data[rows // 2 + 1]
    deadline = time.monotonic() + 20
    while not (folder / "epoch-00001" / "plan.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    before = (folder / "epoch-00001" / "rows.npy").stat().st_mtime_ns
    assert same(data[rows], dataset(store)[rows])
    assert (folder / "epoch-00001" / "rows.npy").stat().st_mtime_ns == before
    assert not (folder / "epoch-00002").exists()


# cuts


def cuts(folder: Path, documents: Named, vocabulary: Vocabulary, seed: int) -> list[dict[str, bytes]]:
    """The tokens of each document in three epochs."""
    vocabulary.save(folder)
    write_split(folder, "train", documents, RATES, vocabulary)
    data, found = dataset(folder, seed=seed, length=4096), []
    for epoch in range(3):
        origin = told(data, epoch)
        order = np.argsort(origin.document, kind="stable")
        pieces = np.split(origin.ids[order], np.cumsum(np.bincount(origin.document))[:-1])
        found.append({record.id: ids.tobytes() for (record, _), ids in zip(documents, pieces, strict=True)})
    return found


def test_a_thousand_documents_are_cut_anew_each_epoch(
    tmp_path: Path, documents: Named, task_vocabulary: Vocabulary
) -> None:
    many = [(replace(record, id=f"{record.id}-{n}"), document) for n in range(42) for record, document in documents]
    many = many[:1000]
    first = cuts(tmp_path / "a", many, task_vocabulary, seed=5)
    again = cuts(tmp_path / "b", many[::-1], task_vocabulary, seed=5)  # stored in another order
    other = cuts(tmp_path / "c", many, task_vocabulary, seed=6)
    assert first == again
    longer = [record.id for record, document in many if len(document.words) // 3 > 15]
    assert len(longer) > 500
    for one, two in ((first[0], first[1]), (first[0], first[2]), (first[1], first[2]), (first[0], other[0])):
        assert sum(one[id] != two[id] for id in longer) > 0.95 * len(longer)
    cut_alike = Counter(first[0][f"doc-3-{n}"] for n in range(41))
    assert len(cut_alike) > 20  # the same document under other ids is cut in other ways


# mixture


def test_the_mixture_holds_over_a_hundred_thousand_rows(store: Path) -> None:
    wanted = {"text": 0.5, "speech": 0.2, "spans": 0.17, "tts": 0.13}
    data = dataset(store, *(source(kind, 3 * share) for kind, share in wanted.items()), length=16)
    counted: Counter[int] = Counter()
    tokens: Counter[int] = Counter()
    for position in range(100_000):
        origin = data.origin(position)
        number = data.source_of(position)
        counted[number] += 1
        tokens[number] += int((origin.document[1:] >= 0).sum())
    shares = data.shares(100_000)
    assert list(shares) == [f"{number}-{kind}-main-train" for number, kind in enumerate(wanted)]
    for number, share in enumerate(wanted.values()):
        assert list(shares.values())[number] == counted[number] / 100_000
        assert abs(counted[number] / 100_000 - share) <= 0.005 * share
        assert abs(tokens[number] / tokens.total() - share) <= 0.005


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=3), st.integers(1, 3 * BLEND_BLOCK))
def test_shares_are_those_of_any_recipe(store: Path, wanted: list[int], positions: int) -> None:
    splits = ("train", "dev", "texts")
    recipes = [source("text", share, splits[number % 3]) for number, share in enumerate(wanted)]
    found = dataset(store, *recipes).shares(positions)
    assert sum(found.values()) == pytest.approx(1)
    for share, realized in zip(wanted, found.values(), strict=False):
        assert abs(realized - share / sum(wanted)) <= 3 / min(positions, BLEND_BLOCK)


@pytest.mark.parametrize("first", [0, BLEND_BLOCK - 30])
def test_each_source_reads_its_rows_one_after_the_other(store: Path, first: int) -> None:
    """Also where a block of blended positions ends and the next begins."""
    data = dataset(store, source("text", 3), source("speech", 2), length=256)
    taken = [round(share * first) for share in data.shares(first).values()]
    for position in range(first, first + 60):
        number = data.source_of(position)
        assert same(data[position], data.sources[number][taken[number]])
        taken[number] += 1
    assert [round(share * (first + 60)) for share in data.shares(first + 60).values()] == taken


def test_sources_of_one_store_cut_it_in_their_own_ways(store: Path) -> None:
    one, two = dataset(store, source("spans"), source("spans")).sources
    assert not any(same(one[row], two[row]) for row in range(20))
    alone = dataset(store, source("spans"))
    assert all(same(alone[row], one[row]) for row in range(20))


def test_stores_are_mixed_by_name(store: Path, tmp_path: Path, documents: Named, task_vocabulary: Vocabulary) -> None:
    task_vocabulary.save(tmp_path)
    write_split(tmp_path, "train", [(Record("only"), document_of((5, 6, 7)))], {}, task_vocabulary)
    recipe = [source("speech", 1), source("text", 3, store="texts")]
    data = MixedDataset({"main": store, "texts": tmp_path, "unused": tmp_path / "absent"}, recipe, 32, 0)
    assert data.names == ["0-speech-main-train", "1-text-texts-train"]
    assert data.shares(4000) == {"0-speech-main-train": 0.25, "1-text-texts-train": 0.75}
    for position in range(8):
        row = data[position]
        expected = {TEXT} if data.source_of(position) else {1, 2, 3}
        assert set(row.modality[(row.loss_mask > 0) & (row.labels != task_vocabulary.eos)].tolist()) <= expected


# refusals


def test_impossible_mixtures_are_refused(store: Path) -> None:
    for words in ((0, 0), (5, 2)):
        for name in ("text_words", "speech_words", "sentences"):
            with pytest.raises(InputError, match=f"mixture.{name} = .*expected 1 <= least <= most"):
                SourceRecipe(kind="spans", **{name: words})
    with pytest.raises(InputError, match="expected at least one source"):
        MixedDataset({"main": store}, [], 64, 0)
    with pytest.raises(InputError, match="store 'texts', expected one of main"):
        dataset(store, source("text", store="texts"))
    for split, kind in (("texts", "speech"), ("texts", "spans"), ("untold", "text")):
        with pytest.raises(InputError, match=f"{split}: holds no tokens of this kind"):
            dataset(store, source(kind, split=split)).prepare()
    with pytest.raises(InputError, match="has no split 'absent', it has dev"):
        dataset(store, source("text", split="absent"))


def test_stores_of_two_vocabularies_are_refused(store: Path, tmp_path: Path, vocabulary: Vocabulary) -> None:
    vocabulary.save(tmp_path)
    write_split(tmp_path, "train", [(Record("a"), document_of((5,)))], {}, vocabulary)
    with pytest.raises(InputError) as error:
        MixedDataset({"main": store, "texts": tmp_path}, [source("text"), source("text", store="texts")], 64, 0)
    assert vocabulary.hash[:16] in str(error.value)
    assert DocumentStore(store, "train").vocabulary.hash[:16] in str(error.value)


def test_a_plan_of_another_run_is_refused(store: Path, tmp_path: Path) -> None:
    dataset(store, plan=tmp_path).prepare()
    for other in ({"seed": 1}, {"length": 65}):
        with pytest.raises(InputError, match="planned for another store, mixture, sequence length or seed"):
            dataset(store, plan=tmp_path, **other).prepare()
    with pytest.raises(InputError, match="planned for another"):
        dataset(store, SourceRecipe(kind="spans"), plan=tmp_path).prepare()


# figures


def test_prepare_tells_rows_and_tokens(store: Path) -> None:
    data = dataset(store, source("text"))
    rows = rows_of(data)
    assert data.prepare() == {"0-text-main-train": {"rows": len(rows), "tokens": len(told(data).ids)}}


def test_dev_rows_hold_every_document_once_in_each_modality(
    store: Path, documents: Named, task_vocabulary: Vocabulary
) -> None:
    rows = dev_samples(store, "dev", 128)
    for modality in (TEXT, SPEECH):
        found = [r.labels[(r.loss_mask > 0) & ((r.modality > TEXT) == modality)] for r in rows]
        order = shuffled(DocumentStore(store, "dev").files.keys, 0, 0)
        told_whole = [documents[number][1] for number in order]
        expected = [compose(d, whole(d, modality), task_vocabulary).ids[1:] for d in told_whole]
        np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert all((row.modality == TEXT).all() for row in dev_samples(store, "texts", 128))


def test_unigram_entropy_of_uniform_units(tmp_path: Path, task_vocabulary: Vocabulary) -> None:
    rng = np.random.default_rng(0)
    task_vocabulary.save(tmp_path)
    for split, count in (("train", 40), ("dev", 4)):
        made = [(Record(str(n)), document_of((5,), [(0, 0, 500)], (), rng.integers(0, 50, 500))) for n in range(count)]
        write_split(tmp_path, split, made, RATES, task_vocabulary)
    data = dataset(tmp_path, source("speech"), source("text"), length=128)
    entropy = unigram_entropy(data, 300, dev_samples(tmp_path, "dev", 128))
    assert entropy[SEMANTIC] == pytest.approx(np.log(50), abs=0.1)
    assert entropy[TEXT] < 1.5
