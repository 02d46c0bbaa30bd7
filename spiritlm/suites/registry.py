"""The benchmarks that are read from folders, by name: one place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, NamedTuple

from spiritlm.errors import InputError
from spiritlm.scoring.judges import Judges
from spiritlm.suites import fluency, intent, librispeech, salmon, spoken_qa, storycloze, stsp, voxeval, zerospeech
from spiritlm.suites.asked import AskedTask
from spiritlm.suites.gold import GOLD
from spiritlm.suites.mirrors import parquet_files
from spiritlm.suites.pairs import Task


@dataclass(frozen=True)
class Asking:
    """How benchmarks of answers are asked, and who judges."""

    judges: Judges = field(default_factory=Judges)
    shots: tuple[int, ...] = ()
    """Examples before a question; a task for each number. Empty: what is published of a suite."""
    template: librispeech.Template = "published"
    most: int | None = None
    """Items of a task, at most, evenly spread."""
    repetitions: int = 3
    """Answers to each question, where they are drawn."""
    seed: int = 0

    def numbers(self, *published: int) -> tuple[int, ...]:
        return self.shots or published


QUESTIONS = ("llama_questions", "web_questions", "trivia_qa")
STORY_QUESTIONS = ("topic_qa", "outcome_qa")
"""Of the small world, both in one folder."""


class Suite(NamedTuple):
    """A benchmark of pairs."""

    folders: tuple[str, ...]
    """Where it lies in the folder of all benchmarks, the first that is there; SPLIT stands for the split."""
    read: Callable[[Path, str | None], list[Task]]
    """Of its folder and the split, None where none was asked for."""
    asks: str
    """In a line."""


class AskedSuite(NamedTuple):
    """A benchmark of answers."""

    folders: tuple[str, ...]
    read: Callable[[Path, str | None, Asking], list[AskedTask]]
    asks: str


def _zerospeech(name: str, part: str, written: bool) -> Suite:
    def read(folder: Path, split: str | None) -> list[Task]:
        if (folder / GOLD).is_file() or not parquet_files(folder):
            return [(zerospeech.read_written if written else zerospeech.read_spoken)(name, folder)]
        if name == "swuggy":
            raise InputError(f"{folder}: expected {GOLD} and recordings, found parquet files")
        return [zerospeech.read_parquet(folder, split, written)]

    asked = "word or non-word" if name == "swuggy" else "grammatical or not"
    folders = (f"{name}/{part}/SPLIT", f"{part}/SPLIT", name)
    return Suite(folders, read, f"{asked}, {'read' if written else 'heard'}")


def _storycloze(name: str, asked: str) -> Suite:
    return Suite((name,), lambda folder, split: storycloze.read(name, folder, split), asked)


def _salmon(part: str) -> Suite:
    def read(folder: Path, split: str | None) -> list[Task]:
        return [salmon.read(f"salmon_{part}", folder)]

    return Suite((f"salmon/{part}", part), read, part.replace("_", " "))


def _librispeech(name: Literal["asr", "tts"], asks: str) -> AskedSuite:
    def read(folder: Path, split: str | None, asking: Asking) -> list[AskedTask]:
        return [
            task
            for shots in asking.numbers(0, 10)
            for task in librispeech.read(
                name, folder, split, asking.judges, shots, asking.template, asking.most, asking.seed
            )
        ]

    return AskedSuite(("librispeech", "LibriSpeech"), read, asks)


def _stsp(folder: Path, split: str | None, asking: Asking) -> list[AskedTask]:
    return [
        task
        for shots in asking.numbers(0)
        for task in stsp.read(folder, split, asking.judges, shots, asking.repetitions, asking.seed, asking.most)
    ]


def _questions(name: str) -> AskedSuite:
    def read(folder: Path, split: str | None, asking: Asking) -> list[AskedTask]:
        _no_split(name, split)
        return spoken_qa.read(name, folder, asking.judges, asking.most)

    public = (name, f"openaudiobench/eval_datas/{name}", f"eval_datas/{name}")
    places = ("story_qa",) if name in STORY_QUESTIONS else public
    return AskedSuite(places, read, "spoken questions, short answers")


def _voxeval(folder: Path, split: str | None, asking: Asking) -> list[AskedTask]:
    _no_split("voxeval", split)
    return [
        task
        for shots in asking.numbers(voxeval.SHOTS)
        for task in voxeval.read(folder, asking.judges, None, shots, asking.most)
    ]


def _no_split(name: str, split: str | None) -> None:
    if split is not None:
        raise InputError(f"answers_split = {split!r}: task {name} has no splits to choose from")


def _fluency(folder: Path, split: str | None, asking: Asking) -> list[AskedTask]:
    _no_split("fluency", split)
    return fluency.read("fluency", folder, asking.judges, asking.most or fluency.MOST)


SUITES = {
    "swuggy": _zerospeech("swuggy", "lexical", written=False),
    "swuggy_text": _zerospeech("swuggy", "lexical", written=True),
    "sblimp": _zerospeech("sblimp", "syntactic", written=False),
    "sblimp_text": _zerospeech("sblimp", "syntactic", written=True),
    "storycloze": _storycloze("storycloze", "which ending belongs to the story, in all directions"),
    "topic_storycloze": _storycloze("topic_storycloze", "the same, with an ending of another story"),
    **{f"salmon_{part}": _salmon(part) for part in salmon.PARTS},
}
ASKED = {
    "asr": _librispeech("asr", "sentences heard and written down"),
    "tts": _librispeech("tts", "sentences read aloud"),
    "intent": AskedSuite(
        ("fluent_speech_commands", "intent"),
        lambda folder, split, asking: [
            intent.read(folder, split, shots, asking.most, asking.seed) for shots in asking.numbers(30)
        ],
        "what a spoken command wants, told from examples",
    ),
    "stsp": AskedSuite(("stsp", "stsp_data"), _stsp, "the sentiment of a prompt kept, in all directions"),
    **{name: _questions(name) for name in (*QUESTIONS, *STORY_QUESTIONS)},
    "voxeval": AskedSuite(("voxeval", "VoxEval"), _voxeval, "MMLU asked and answered aloud"),
    "fluency": AskedSuite(("fluency",), _fluency, "perplexity and repetition of what is told on"),
}
SPLIT = "dev"
"""Of the official layouts, where none was asked for."""
GROUPS = {
    "salmon": tuple(f"salmon_{part}" for part in salmon.PARTS),
    "spoken_qa": QUESTIONS,
}
"""Names that stand for several suites."""


def require_names(names: Sequence[str], others: Collection[str] = ()) -> list[str]:
    """`names` with groups spelt out, each once. `others`: names that are known elsewhere. Raises `InputError` for an
    unknown one, with the nearest."""
    known = [*SUITES, *ASKED, *GROUPS, *others]
    for name in names:
        if name not in known:
            raise InputError(
                f"tasks: there is no {name!r}; the nearest is {get_close_matches(name, known, 1, 0.0)[0]!r} "
                f"of {', '.join(known)}"
            )
    return list(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))


def folder_of(name: str, root: Path, split: str | None = None) -> Path:
    """Where in `root` the benchmark of a suite lies. Raises `InputError` where it is not there, or has other splits."""
    require_names([name])
    folders = SUITES[name].folders if name in SUITES else ASKED[name].folders
    places = [root / place.replace("SPLIT", split or SPLIT) for place in folders]
    official = [root / place.removesuffix("/SPLIT") for place in folders if place.endswith("/SPLIT")]
    for part in official:
        if part.is_dir() and not (part / (split or SPLIT)).is_dir():
            there = sorted(found.name for found in part.iterdir() if found.is_dir())
            raise InputError(f"{part}: has no split {split or SPLIT!r}; it has {', '.join(there) or 'none'}")
    for place in places:
        if place.is_dir():
            return place
    raise InputError(f"task {name}: expected its benchmark in {' or '.join(map(str, places))}, found no such folder")


def read_tasks(name: str, root: Path, split: str | None = None) -> list[Task]:
    """The tasks of a suite whose benchmark lies in `root`; `split`: of the official layouts `dev` where None, of a
    mirror the only one. Raises `InputError` where it is not there, or holds nothing."""
    folder = folder_of(name, root, split)
    tasks = SUITES[name].read(folder, split)
    for task in tasks:
        if not task.pairs:
            raise InputError(f"{folder}: task {task.name} has no items")
    return tasks


def read_asked(name: str, root: Path, split: str | None, asking: Asking) -> list[AskedTask]:
    """The same for a benchmark of answers; `split`: the suite's own choice where None. Raises `InputError` where the
    judge that it needs is not there, too."""
    return ASKED[name].read(folder_of(name, root), split, asking)


def lacking_judges(names: Sequence[str], judges: Judges) -> list[str]:
    """Tasks that suites of these `names` would have if somebody judged them."""
    found = [f"{name} S>S" for name in names if name in (*QUESTIONS, *STORY_QUESTIONS) and judges.recognizer is None]
    return found + (["fluency perplexity"] if "fluency" in names and judges.text_model is None else [])
