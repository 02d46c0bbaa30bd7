"""The steps, with a model that knows when each letter is said."""

from pathlib import Path

import numpy as np
import pytest

from spiritlm.alignment.words import Alphabet, Lag
from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, read_manifest, write_manifest
from spiritlm.errors import InputError
from spiritlm.pipelines import align
from spiritlm.pipelines.align import Aligned, AlignSpeech, ReadAlignments, WriteAligned, join_aligned
from spiritlm.pipelines.shards import Rejected
from spiritlm.run.files import read_jsonl

FIRST = (Word("He", 0.3, 0.5), Word("ran", 0.52, 0.9), Word("out of", 0.96, 1.4), Word("town.", 1.5, 1.9))
SECOND = (Word("Who", 2.3, 2.6), Word("knew?", 2.7, 3.1))
SECONDS = 3.5


def document(id: str, *sentences: Sentence) -> SpokenDocument:
    return SpokenDocument(id, Path(f"wav/{id}.wav"), SECONDS, 16000, "ann", sentences)


TRUE = (Sentence.of_words(FIRST), Sentence.of_words(SECOND))


class Planted:
    """A `FrameModel` that hears `FIRST` and `SECOND` in every recording, whatever its sound."""

    alphabet = Alphabet(0, 1, {letter: n for n, letter in enumerate("abcdefghijklmnopqrstuvwxyz", start=2)})
    frame_rate = 50.0
    lag = Lag()

    def log_probs(self, wave: np.ndarray) -> np.ndarray:
        said = np.zeros(round(len(wave) / 320), np.int64)
        for word in (*FIRST, *SECOND):
            ids = [id for part in word.text.split() for id in (1, *(self.alphabet.spell(part) or ()))][1:]
            edges = np.linspace(word.start, word.end, len(ids) + 1) * self.frame_rate
            for id, first, last in zip(ids, edges[:-1], edges[1:], strict=True):
                said[round(first) : round(last)] = id
        log_probs = np.full((len(said), 28), -8.0, np.float32)
        log_probs[np.arange(len(said)), said] = -0.1
        return log_probs


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "corpus/wav").mkdir(parents=True)
    for id in ("good", "mute", "long", "other", "half"):
        write_wav(tmp_path / f"corpus/wav/{id}.wav", np.zeros(round(16000 * SECONDS)), 16000)
    monkeypatch.setattr(align, "_model", lambda folder: Planted())
    return tmp_path / "corpus"


def run(corpus: Path, *documents: SpokenDocument, min_score: float = -1.0) -> list[Aligned | Rejected]:
    return list(AlignSpeech(corpus, corpus, 0.25, min_score).run(documents))


def test_words_are_found_where_they_are_said(corpus: Path) -> None:
    untimed = tuple(Sentence(s.text, s.start, s.end) for s in TRUE)
    for source, given in ((TRUE, 7), (untimed, 0)):
        (found,) = run(corpus, document("good", *source))
        assert isinstance(found, Aligned)
        assert found.document.text == document("good", *TRUE).text
        words = {word.text: word for sentence in found.document.sentences for word in sentence.words}
        assert list(words) == ["He", "ran", "out", "of", "town.", "Who", "knew?"]
        for word in (FIRST[0], FIRST[1], FIRST[3], *SECOND):
            assert words[word.text].start == pytest.approx(word.start, abs=0.021)
            assert words[word.text].end == pytest.approx(word.end, abs=0.021)
        assert FIRST[2].start - 0.021 <= words["out"].end < words["of"].start < FIRST[2].end
        assert found.score == pytest.approx(-0.1, abs=0.01)
        assert len(found.given) == 7 and sum(start is not None for start in found.given) == max(0, given - 1)


def test_what_cannot_be_aligned_is_rejected_and_the_rest_is_kept(corpus: Path) -> None:
    (corpus / "wav/broken.wav").write_text("not audio")
    wrong = Sentence("quite another thing", 2.3, 3.1)
    found = run(
        corpus,
        document("mute", Sentence("", 0, SECONDS)),
        document("broken", *TRUE),
        document("absent", *TRUE),
        document("long", Sentence("far too long a text for so little sound " * 5, 0, SECONDS)),
        document("other", wrong),
        document("half", TRUE[0], wrong),
    )
    reasons = {item.item: item.reason for item in found if isinstance(item, Rejected)}
    assert list(reasons) == ["mute", "broken", "absent", "long-0", "other-0", "half-1"]
    assert reasons["mute"] == "empty transcript"
    assert "cannot be read" in reasons["broken"] and "there is none" in reasons["absent"]
    assert "take at least" in reasons["long-0"]
    assert "under min_score = -1.0" in reasons["other-0"] and "under min_score" in reasons["half-1"]
    (kept,) = (item.document for item in found if isinstance(item, Aligned))
    assert (kept.id, kept.text) == ("half", TRUE[0].text)


def test_shards_are_joined_with_their_rejects_and_figures(corpus: Path, tmp_path: Path) -> None:
    work, out = tmp_path / "out/shards", tmp_path / "out"
    later = document("other", Sentence.of_words([Word(w.text, w.start - 0.1, w.end) for w in SECOND]))
    for rank, documents in enumerate([(document("good", *TRUE),), (document("mute", Sentence("", 0, 1)), later)]):
        list(WriteAligned(work).run(run(corpus, *documents), rank, 2))
    with pytest.raises(InputError, match=r"1 of 4 items cannot be used.*mute: empty transcript"):
        join_aligned(work, ["train", "train"], out, 0.2)
    counts = join_aligned(work, ["train", "train"], out, 0.25)
    assert counts["rejected"] == 1
    expected = {"recordings": 2, "sentences": 3, "words": 9, "hours": 0.002, "score": pytest.approx(-0.1, abs=0.01)}
    assert counts["train"] == expected
    assert counts["start_error"]["overall"]["words"] == counts["start_error"]["ann"]["words"] == 8
    assert counts["start_error"]["ann"]["median_ms"] <= 20 < 90 <= counts["start_error"]["ann"]["p95_ms"]
    assert [d.id for d in read_manifest(out, "train")] == ["good", "other"]
    assert [row["item"] for row in read_jsonl(out / "rejects.jsonl")] == ["mute"]


def textgrid(words: list[tuple[str, float, float]]) -> str:
    rows = "\n".join(f'{start}\n{end}\n"{text}"' for text, start, end in words)
    head = f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{SECONDS}\n<exists>\n1\n'
    return f'{head}"IntervalTier"\n"words"\n0\n{SECONDS}\n{len(words)}\n{rows}\n'


def test_textgrids_stand_in_for_a_model(tmp_path: Path) -> None:
    (tmp_path / "wav").mkdir()
    words = [("", 0.0, 0.3), *((w.text.lower().strip(".?"), w.start, w.end) for w in (*FIRST, *SECOND))]
    (tmp_path / "wav/good.TextGrid").write_text(textgrid(words))
    (tmp_path / "wav/other.TextGrid").write_text(textgrid([("he", 0.1, 0.2), ("sat", 0.2, 0.5)]))
    (tmp_path / "wav/half.TextGrid").write_text(textgrid([("he", 0.1, 0.2), ("ran", 0.2, 9.0)]))
    ran = Sentence("He ran", 0, 1)
    documents = [document("good", *TRUE), document("other", ran), document("half", ran), document("absent", ran)]
    outside = SpokenDocument("out", Path("../x.wav"), 1.0, 16000, "ann", (ran,))
    good, *rejected = ReadAlignments(tmp_path, "words").run([*documents, outside])
    assert isinstance(good, Aligned)
    found = [word for sentence in good.document.sentences for word in sentence.words]
    assert [word.text for word in found] == ["He", "ran", "out", "of", "town.", "Who", "knew?"]
    assert [(w.start, w.end) for w in (*found[:2], *found[4:])] == [
        (w.start, w.end) for w in (*FIRST[:2], FIRST[3], *SECOND)
    ]
    reasons = [item.reason for item in rejected if isinstance(item, Rejected)]
    assert len(reasons) == 4
    assert "says 'sat' where the transcript has 'ran'" in reasons[0] and "ends at 9.00 s" in reasons[1]
    assert "No such file" in reasons[2] and "leaves" in reasons[3]


def test_an_aligned_corpus_reads_back(corpus: Path, tmp_path: Path) -> None:
    (found,) = run(corpus, document("good", *TRUE))
    assert isinstance(found, Aligned)
    write_manifest(tmp_path, "train", [found.document])
    assert read_manifest(tmp_path, "train") == [found.document]
