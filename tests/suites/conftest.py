from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from spiritlm.audio.files import write_wav
from spiritlm.scoring.ngram import NGram
from spiritlm.scoring.protocol import Request, Score, Segment
from spiritlm.scoring.rows import TokenRequest

LEVELS = 16
RATE = 16_000


class SurfaceModel:
    """A trigram over letters and over levels of sound, behind the seam: small, real, and no good at meaning."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.identity = {"model": "surface"}
        self._ngram = NGram([np.frombuffer(text.encode(), np.uint8).astype(int) for text in texts], 256 + LEVELS)

    def _ids(self, pieces: Sequence[Segment]) -> np.ndarray:
        ids = [np.zeros(0, int)]
        for piece in pieces:
            if isinstance(piece, str):
                ids.append(np.frombuffer(piece.encode(), np.uint8).astype(int))
            else:
                blocks = np.array_split(piece.read(RATE), 20)
                ids.append(256 + np.array([min(LEVELS - 1, int(LEVELS * np.abs(b).mean())) for b in blocks]))
        return np.concatenate(ids)

    def tokens(self, request: Request) -> TokenRequest:
        return TokenRequest(self._ids(request.prompt), self._ids(request.continuation))

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        found = self._ngram.loglikelihood([self.tokens(request) for request in requests])
        return [Score(score.total, score.tokens, score.total / 2) for score in found]


@pytest.fixture(scope="session")
def surface_model() -> SurfaceModel:
    return SurfaceModel(["the cat sat on the mat", "the dog ran to the lake", "tom was sad"] * 3)


def tone(path: Path, level: float) -> Path:
    """A twentieth of a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_wav(path, level * np.sin(np.arange(RATE // 20) / 5), RATE)
    return path


@pytest.fixture(scope="session")
def write_tone() -> Callable[[Path, float], Path]:
    return tone


def table(rows: Sequence[Mapping[str, object]], order: Sequence[str]) -> str:
    lines = [",".join(order), *(",".join(str(row[name]) for name in order) for row in rows)]
    return "".join(f"{line}\n" for line in lines)


@pytest.fixture(scope="session")
def gold_text() -> Callable[[Sequence[Mapping[str, object]], Sequence[str]], str]:
    """Rows as the text of a `gold.csv`, columns in the order that is asked for."""
    return table


WORDS = (("cat", "cet", 0, 3), ("mat", "mut", 5, 3), ("lake", "laek", 100, 4), ("tom", "tim", 19, 3))


@pytest.fixture(scope="session")
def lexical_rows() -> list[dict[str, object]]:
    """Four pairs, in two voices the first two."""
    rows: list[dict[str, object]] = []
    for id, (word, other, frequency, length) in enumerate(WORDS):
        for voice in ("A", "B")[: 2 if id < 2 else 1]:
            for correct, text in ((1, word), (0, other)):
                rows.append(
                    {"filename": f"{text}{voice}", "id": id, "voice": voice, "frequency": frequency if correct else "",
                     "word": text, "phones": " ".join(text), "length": length, "correct": correct}
                )  # fmt: skip
    return rows


@pytest.fixture
def lexical(tmp_path: Path, lexical_rows: list[dict[str, object]]) -> Path:
    """The official layout of sWUGGY's dev set."""
    folder = tmp_path / "swuggy" / "lexical" / "dev"
    for number, row in enumerate(lexical_rows):
        tone(folder / f"{row['filename']}.wav", 0.1 + 0.06 * (number % 7))
    (folder / "gold.csv").write_text(table(lexical_rows, list(lexical_rows[0])))
    return folder
