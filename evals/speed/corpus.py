"""How fast packed, interleaved samples are planned and read, in what memory, and beside the way that slamkit does it.

    python evals/speed/corpus.py [--documents 1000000] [--folder DIR]

Makes two stores of synthetic aligned documents (about 40 words and 15 seconds each), one ten times the other, and
measures in fresh processes: planning an epoch; reading rows of 4,096 tokens; the first sample at position 10**6 with
and without a plan. Then the same job the other way: JSON lines of unit strings, interleaved at preparation, tokenized
by a Hugging Face tokenizer, packed. Rates of reading and the time of a resume are medians of 5. Exit status 1 where an
aim is missed.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
from tokenizers import Tokenizer

from spiritlm.corpus.datasets import MAIN_STORE, MixedDataset, PackedSource, SourceRecipe
from spiritlm.corpus.store import DocumentStore, Record, write_split
from spiritlm.tokens.emit import Document, document_of
from spiritlm.tokens.huggingface import save_huggingface_tokenizer
from spiritlm.tokens.layout import spirit
from spiritlm.tokens.published_interleave import SPEECH_MARK, TEXT_MARK, UNIT, Word, poisson_words, units_by_words
from spiritlm.tokens.text import SentencePieceText
from spiritlm.tokens.vocabulary import Vocabulary

LENGTH, RATE, UNITS, REPEATS, POSITION = 4096, 25.0, 501, 5, 10**6
SOURCE = SourceRecipe(kind="poisson", poisson_mean=10, spoken_share=0.3)
SLAMKIT_DOCUMENTS = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=1_000_000, help="of the larger store (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="keep the stores here and use those that are there")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "STORE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(MEASURES[options.measure[0]](Path(options.measure[1]))))
        return
    folder = options.folder or Path(tempfile.mkdtemp(prefix="corpus-speed-"))
    try:
        sys.exit(compare(folder, options.documents))
    finally:
        if not options.folder:
            shutil.rmtree(folder)


def compare(folder: Path, documents: int) -> int:
    """Measure everything and print it. Returns the exit status."""
    small, large = (store(folder / str(n), n) for n in (documents // 10, documents))
    counts = DocumentStore(large, "train").counts
    tokens = counts["text_ids"] + counts["units"]
    print(
        f"stores: {documents // 10:,} and {documents:,} documents; the larger {tokens / 1e6:.0f} M text ids and units"
    )
    _, plan = run("plan", small), run("plan", large)
    reads = {"small": run("read", small), "large": run("read", large)}
    cold, warm = run("cold", large), run("warm", large)
    slamkit = run("slamkit", large)
    growth = reads["large"]["anonymous_mb"] / reads["small"]["anonymous_mb"]
    peak_growth = reads["large"]["peak_mb"] / reads["small"]["peak_mb"]
    rows = [
        ("rows of 4,096, M tokens/s per worker", reads["large"]["rate"] / 1e6, ">=", 2.0),
        ("planning an epoch, s", plan["seconds"], "<=", 60.0),
        ("first sample at position 10**6, warm plan, s", warm["seconds"], "<=", 1.0),
        ("peak memory of reading, larger store / smaller", peak_growth, "<=", 1.25),
        ("ours / slamkit's way, tokens/s", slamkit["ours"] / slamkit["theirs"], ">=", 1.0),
    ]
    print(f"plan: {plan['tokens'] / 1e6:.0f} M tokens, {plan['rows']:,} rows, peak {plan['peak_mb']:.0f} MB")
    for name, read in reads.items():
        print(f"read, {name} store: {read['rate'] / 1e6:.1f} M tokens/s, peak {read['peak_mb']:.0f} MB "
              f"(anonymous {read['anonymous_mb']:.0f} MB)")  # fmt: skip
    print(f"anonymous memory, larger store / smaller: {growth:.3f}")
    print(f"first sample at position 10**6, no plan yet: {cold['seconds']:.1f} s ({cold['epochs']} epochs planned)")
    ours, theirs = slamkit["ours"], slamkit["theirs"]
    print(f"slamkit's way: {theirs / 1e3:.0f} k tokens/s; ours, planning included: {ours / 1e3:.0f} k")
    missed = 0
    for name, found, relation, aim in rows:
        met = found >= aim if relation == ">=" else found <= aim
        missed += not met
        print(f"{name:50s} {found:10.2f}   aim {relation} {aim:g}{'' if met else '   MISSED'}")
    return 1 if missed else 0


def run(what: str, path: Path) -> dict[str, Any]:
    """One measure in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--measure", what, str(path)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{what}: {done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{what}: {found}", flush=True)
    return found


# the stores


def store(folder: Path, documents: int) -> Path:
    if not (folder / "train" / "manifest.json").is_file():
        started = time.perf_counter()
        vocabulary = _vocabulary()
        vocabulary.save(folder)
        write_split(folder, "train", _documents(documents, vocabulary), {"semantic": RATE}, vocabulary)
        print(f"wrote {documents:,} documents in {time.perf_counter() - started:.0f} s")
    return folder


def _vocabulary() -> Vocabulary:
    rng, model = np.random.default_rng(0), io.BytesIO()
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size=rng.integers(2, 9))) for _ in range(3000)]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(" ".join(rng.choice(words, size=20)) for _ in range(3000)), model_writer=model,
        vocab_size=4000, hard_vocab_limit=False, byte_fallback=True, character_coverage=1.0,
        normalization_rule_name="identity", minloglevel=2, num_threads=1,
    )  # fmt: skip
    text = SentencePieceText(model.getvalue())
    return Vocabulary(text, spirit(text.size, {"semantic": UNITS}, text.bos, text.eos))


def _documents(count: int, vocabulary: Vocabulary) -> Iterator[tuple[Record, Document]]:
    """Words of one or two pieces and 0.15 to 0.6 s; four of five units differ from the one before."""
    rng = np.random.default_rng(1)
    whole = np.array([i for i in range(vocabulary.text.size) if vocabulary.token(i).startswith("▁")], np.int32)
    for number in range(count):
        words = int(rng.integers(20, 60))
        pieces = 1 + rng.integers(0, 2, size=words)
        starts = np.concatenate([[0], np.cumsum(pieces)])
        ends = np.cumsum(rng.integers(4, 15, size=words))
        units = np.cumsum(rng.random(ends[-1]) < 0.8) * 7919 % UNITS
        table = np.stack([starts[:-1], ends - np.diff(ends, prepend=0), ends], axis=1)
        yield Record(f"{number}"), document_of(rng.choice(whole, starts[-1]), table, (0,), units)


# the measures, each in a process of its own


def measure_plan(path: Path) -> dict[str, Any]:
    """Leaves the plan for `measure_read`."""
    shutil.rmtree(path / "first", ignore_errors=True)
    started = time.perf_counter()
    plan = _source(path, path / "first").plans.of_row(0)[1]
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "rows": len(plan), "tokens": plan.tokens, **_memory()}


def measure_read(path: Path) -> dict[str, Any]:
    source = _source(path, path / "first")
    rows, rng = len(source.plans.of_row(0)[1]), np.random.default_rng(2)
    _ = source[0]
    rates = []
    for _ in range(REPEATS):
        chosen = rng.integers(0, rows // 2, size=600)  # the second half would plan the next epoch
        started = time.perf_counter()
        for row in chosen:
            _ = source[int(row)]
        rates.append(len(chosen) * LENGTH / (time.perf_counter() - started))
    return {"rate": statistics.median(rates), **_memory()}


def measure_warm(path: Path) -> dict[str, Any]:
    seconds = [run("first", path)["seconds"] for _ in range(REPEATS)]
    return {"seconds": statistics.median(seconds)}


def measure_first(path: Path) -> dict[str, Any]:
    import megatron.core  # noqa: F401  the trainer has it already

    started = time.perf_counter()
    _ = _mixture(path, path / "plan")[POSITION]
    return {"seconds": time.perf_counter() - started}


def measure_cold(path: Path) -> dict[str, Any]:
    """Leaves the plans for `measure_warm`."""
    shutil.rmtree(path / "plan", ignore_errors=True)
    started = time.perf_counter()
    dataset = _mixture(path, path / "plan")
    _ = dataset[POSITION]
    return {"seconds": time.perf_counter() - started, "epochs": dataset.sources[0].plans.newest + 1}


def measure_slamkit(path: Path) -> dict[str, Any]:
    """Both ways over the same documents, from what is on disk to packed rows."""
    documents = DocumentStore(path, "train")
    with tempfile.TemporaryDirectory(dir=path) as name:
        folder = Path(name)
        some = ((documents.record(i), documents[i]) for i in range(SLAMKIT_DOCUMENTS))
        write_split(folder, "train", some, {"semantic": RATE}, documents.vocabulary)
        documents.vocabulary.save(folder)
        _write_json_lines(documents, folder / "documents.jsonl")
        save_huggingface_tokenizer(documents.vocabulary, folder)
        ours = [_rate_of_ours(folder, seed) for seed in range(REPEATS + 1)][1:]
        theirs = [_rate_of_theirs(folder, seed) for seed in range(REPEATS)]
    return {"ours": statistics.median(ours), "theirs": statistics.median(theirs)}


def _rate_of_ours(folder: Path, seed: int) -> float:
    started = time.perf_counter()
    source = PackedSource(DocumentStore(folder, "train"), SOURCE, LENGTH, seed)
    rows = source.all_rows()
    return len(rows) * LENGTH / (time.perf_counter() - started)


def _rate_of_theirs(folder: Path, seed: int) -> float:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_tokens([TEXT_MARK, SPEECH_MARK, *(UNIT.format(unit) for unit in range(UNITS))])
    rng, ids = np.random.default_rng(seed), []
    started = time.perf_counter()
    with (folder / "documents.jsonl").open() as file:
        for line in file:
            row = json.loads(line)
            words = [Word(*word) for word in row["words"]]
            spoken = poisson_words(len(words), 10, 0.3, rng)
            string = units_by_words(row["units"], row["durations"], 1 / RATE, words, spoken.tolist())
            ids += tokenizer.encode(string).ids
    rows = [np.array(ids[start : start + LENGTH + 1]) for start in range(0, len(ids), LENGTH)]
    return len(rows) * LENGTH / (time.perf_counter() - started)


def _write_json_lines(documents: DocumentStore, path: Path) -> None:
    from spiritlm.tokens.interleave import deduplicate

    with path.open("w") as file:
        for number in range(SLAMKIT_DOCUMENTS):
            document = documents[number]
            table = document.words.reshape(-1, 3)
            texts = np.split(document.text, table[1:, 0])
            units, durations = deduplicate(document.semantic)
            words = [
                (documents.vocabulary.decode_text(text) + " ", start / RATE, end / RATE)
                for text, (_, start, end) in zip(texts, table.tolist(), strict=True)
            ]
            file.write(json.dumps({"units": units.tolist(), "durations": durations.tolist(), "words": words}) + "\n")


def _source(path: Path, plans: Path) -> PackedSource:
    return PackedSource(DocumentStore(path, "train"), SOURCE, LENGTH, seed=0, plan_folder=plans)


def _mixture(path: Path, plans: Path) -> MixedDataset:
    return MixedDataset({MAIN_STORE: path}, [SOURCE], LENGTH, seed=0, plan_folder=plans)


def _memory() -> dict[str, float]:
    """Most memory of this process so far, and what of it now is no file, MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    said = {line.split(":")[0]: line.split()[1] for line in lines if line.endswith("kB")}
    return {"peak_mb": int(said["VmHWM"]) / 1024, "anonymous_mb": int(said["RssAnon"]) / 1024}


MEASURES = {
    "plan": measure_plan,
    "read": measure_read,
    "warm": measure_warm,
    "first": measure_first,
    "cold": measure_cold,
    "slamkit": measure_slamkit,
}

if __name__ == "__main__":
    main()
