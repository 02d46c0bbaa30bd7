import math
import re
from collections import defaultdict

import pytest

from spiritlm.scoring.recognizer import SphinxRecognizer, bigram_arpa
from spiritlm.smallworld import flite

SENTENCES = ("Tom went to the lake with his mother.", "He wanted to catch a big fish.", "The rain came soon.")
NEEDS_FLITE = pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed")


def test_what_may_follow_a_word_adds_up() -> None:
    arpa = bigram_arpa([["a", "b"], ["a", "c", "a", "b"], ["b"]])
    head, _, tail = arpa.partition("\\2-grams:")
    singles = {w: (10 ** float(p), 10 ** float(b)) for p, w, b in re.findall(r"^(-\S+) (\S+) (-?\S+)$", head, re.M)}
    known: dict[str, dict[str, float]] = defaultdict(dict)
    for p, first, second in re.findall(r"^(-\S+) (\S+) (\S+)$", tail, re.M):
        known[first][second] = 10 ** float(p)
    assert math.isclose(sum(p for p, _ in singles.values()), 1, abs_tol=1e-3)
    for first, after in known.items():
        unseen = sum(p for word, (p, _) in singles.items() if word not in after)
        assert math.isclose(sum(after.values()) + singles[first][1] * unseen, 1, abs_tol=1e-3)


@NEEDS_FLITE
def test_it_understands_what_may_be_said() -> None:
    recognizer = SphinxRecognizer([*SENTENCES, "Zqwx came."])
    assert recognizer.unknown == ("zqwx",)
    for sentence in SENTENCES:
        heard = recognizer(flite.speak(sentence, "rms").wave)
        assert heard == sentence.lower().rstrip(".")
