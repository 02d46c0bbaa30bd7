from pathlib import Path

import numpy as np
import pytest

from spiritlm.audio.files import write_wav
from spiritlm.corpus.manifest import Sentence, SpokenDocument, Word, write_manifest
from spiritlm.corpus.store import Record, write_split
from spiritlm.run.files import write_json
from spiritlm.tokens.emit import document_of
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary
from spiritlm.units.mfcc import fit_mfcc_kmeans

SPEAKERS = ("kal", "slt")


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, text_model):
    """Finished speak, units and encode stages over noise that changes its colour."""
    root = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    waves, documents = {}, {"train": [], "dev": []}
    (root / "speech" / "audio").mkdir(parents=True)
    for split, number in [*(("train", i) for i in range(6)), *(("dev", i) for i in range(2))]:
        name = f"{split}-{number}"
        pieces = [np.convolve(rng.standard_normal(3200), rng.standard_normal(8), "same") for _ in range(10)]
        waves[name] = (0.05 * np.concatenate(pieces)).astype(np.float32)
        write_wav(root / "speech" / "audio" / f"{name}.wav", waves[name], 16000)
        sentence = Sentence.of_words((Word("noise", 0.0, 2.0),))
        path = Path("audio") / f"{name}.wav"
        documents[split].append(SpokenDocument(name, path, 2.0, 16000, SPEAKERS[number % 2], (sentence,)))

    tokenizer = fit_mfcc_kmeans([waves[d.id] for d in documents["train"]], clusters=16, seed=0)
    tokenizer.save_pretrained(root / "units" / "model")
    text = SentencePieceText(text_model)
    vocabulary = Vocabulary(text, spirit(text.size, {"semantic": 16}, text.bos, text.eos))
    vocabulary.save(root / "store")
    for split, spoken in documents.items():
        write_manifest(root / "speech", split, spoken)
        records = [Record(d.id, d.speaker, str(d.audio), 0.0, d.duration) for d in spoken]
        encoded = [tokenizer.encode(waves[d.id], 16000).semantic.values for d in spoken]
        aligned = [document_of([5], [(0, 0, len(units))], semantic=units) for units in encoded]
        write_split(root / "store", split, zip(records, aligned, strict=True), {"semantic": tokenizer.rate}, vocabulary)
    for stage, inputs in (("speech", []), ("units", []), ("store", ["speech", "units"])):
        write_json(root / stage / "stage.json", {"fingerprint": stage, "inputs": {name: name for name in inputs}})
    return root
