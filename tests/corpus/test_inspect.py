"""`spiritlm inspect` on real stores."""

import shutil
from pathlib import Path
from subprocess import CompletedProcess

from spiritlm.corpus.store import DocumentStore
from spiritlm.tokens.vocabulary import Vocabulary

from ..programs import run_here

REPO = Path(__file__).resolve().parents[2]


def inspect(*arguments: str) -> CompletedProcess[str]:
    return run_here(REPO / "spiritlm" / "cli.py", "inspect", *arguments)


def test_counts_tokens_and_verification(store: Path) -> None:
    done = inspect(str(store))
    assert done.returncode == 0, done.stderr
    assert f"vocabulary {Vocabulary.load(store).hash[:16]}" in done.stdout
    assert f"train: {len(DocumentStore(store, 'train'))} documents" in done.stdout
    assert "<s>[Text]" in done.stdout
    assert "<s>[Speech][St" in done.stdout
    assert done.stdout.count("whole: every sha256") == len(list(store.glob("*/manifest.json")))


def test_one_split_and_one_document(store: Path) -> None:
    done = inspect(str(store / "train"), "--document", "3", "--tokens", "5")
    assert "document 3: id doc-3, speaker voice-0" in done.stdout
    assert "dev:" not in done.stdout
    last = len(DocumentStore(store, "train")) - 1
    done = inspect(str(store / "train"), "--document", str(last + 1))
    assert (done.returncode, f"expected 0 to {last}" in done.stderr) == (2, True)


def test_a_corrupt_store_and_what_is_no_store_are_refused(store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    path = copy / "train" / "semantic.bin"
    content = bytearray(path.read_bytes())
    content[7] ^= 1
    path.write_bytes(content)
    done = inspect(str(copy))
    assert done.returncode == 2
    assert "semantic.bin: corrupt: sha256" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    done = inspect(str(tmp_path))
    assert done.returncode == 2
    assert "expected a store" in done.stderr
