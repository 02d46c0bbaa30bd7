from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, corpus_root, write_manifest
from spiritlm.pipelines.documents import ReadDocuments, cut_into_shards
from spiritlm.run.files import write_json


def document(id: str, seconds: float) -> SpokenDocument:
    sentence = Sentence.of_words([Word("It", 0.1, 0.2), Word("rained.", 0.2, 0.9)])
    return SpokenDocument(id, Path(f"wav/{id}.wav"), seconds, 16000, "ann", (sentence,), {"mood": "sad"})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 7200), min_size=1, max_size=12), st.integers(1, 10_000))
def test_shards_hold_every_document_once_and_enough_of_them(seconds: list[int], wanted: int) -> None:
    with TemporaryDirectory() as folder:
        corpus, work = Path(folder) / "corpus", Path(folder) / "work"
        corpus.mkdir()
        documents = [document(str(number), float(s)) for number, s in enumerate(seconds)]
        write_manifest(corpus, "train", documents)
        write_manifest(corpus, "dev", documents[:1])
        shards = cut_into_shards(corpus, work, wanted / 3600)
        assert shards.documents == len(seconds) + 1
        assert shards.splits == ("train",) * (len(shards.splits) - 1) + ("dev",)
        read = [list(ReadDocuments(work).run(rank=rank)) for rank in range(len(shards.splits))]
        assert [d for shard in read[:-1] for d in shard] == documents
        assert read[-1] == documents[:1]
        for number, shard in enumerate(read[:-1]):
            held = sum(d.duration for d in shard)
            assert held > wanted - 1e-6 or number == len(read) - 2
            assert held - shard[-1].duration < wanted + 1e-6


def test_shards_know_where_the_audio_is_and_are_cut_once(tmp_path: Path) -> None:
    write_json(tmp_path / "corpus.json", {"root": "/data/audio"})
    write_manifest(tmp_path, "train", [document("a", 5.0)])
    first = cut_into_shards(tmp_path, tmp_path / "work", 1.0)
    assert corpus_root(tmp_path / "work" / "input") == Path("/data/audio")
    write_manifest(tmp_path, "train", [document("b", 5.0)])
    assert cut_into_shards(tmp_path, tmp_path / "work", 1.0) == first
    assert [d.id for d in ReadDocuments(tmp_path / "work").run(rank=0)] == ["a"]
