"""Words of the small world beside non-words: one letter exchanged, heard as one phone exchanged.

A non-word is spelled and pronounced as words are: all its pairs of neighbouring letters, and of neighbouring phones,
occur in the lexicon, with word edges counted. Pairs are made two at a time: where one turns `b` into `d`, its partner
turns `d` into `b`, in letters and in phones. So each letter and phone is as often right as wrong, and neither
lengths nor single letters or phones tell words from non-words. Couples are chosen so that pairs of neighbours
do not tell them either: the non-word is the likelier one as often as the word.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.smallworld.scenarios import NAMES
from spiritlm.smallworld.stories import stories

VOWELS, CONSONANTS = "aeiou", "bcdfghjklmnpqrstvwxz"
EDGE = "#"
MOST_USES = 8
"""Of a word."""

Pronounce = Callable[[str], tuple[str, ...]]
"""Phones of a spelling, as a synthesizer says it."""
Swap = tuple[str, str]
"""The letter or phone that a word has, and the one that its non-word has there."""

_HELD_OUT = """
river desert temple tunnel cellar cabin hotel bank prison island pond meadow hut tent camp store shop mill dock
canyon chapel attic alley avenue factory library cottage mansion harvest orchard jungle swamp volcano spoon knife
plate bottle pillow blanket candle button ribbon pencil paper pocket wallet camera guitar violin trumpet flute
saddle anchor paddle sail shell pearl crown jewel statue carpet curtain drawer cabinet cradle tiger rabbit camel
donkey turtle pigeon parrot spider lizard salmon lobster puppy kitten pony sheep wolf fox bread cheese pepper
onion tomato potato lemon melon banana apple peach cherry honey sugar salt soup rice bean wrench drill pump chain
wheel motor pedal lever handle bolt pliers chisel compass lantern helmet shield arrow sailor pirate barber lawyer
butler hunter miner captain pilot waiter writer banker narrow purple yellow modern silent polite tender shallow
pretty hollow rotten sudden common certain jumped pulled pushed kicked lifted planted cleaned mended rested waited
talked listened gathered winter summer autumn thunder lightning breeze storm cloud shadow corner bottom ceiling
"""
HELD_OUT_WORDS = tuple(_HELD_OUT.split())
"""English words of the kinds that the stories are made of, in no story and no form of one that is."""


class WordPair(NamedTuple):
    word: str
    nonword: str


class _Candidate(NamedTuple):
    pair: WordPair
    swaps: tuple[Swap, ...]
    """In letters, and in the phones of each synthesizer."""


Couple = tuple[_Candidate, _Candidate]


def word_lists() -> list[Path]:
    """Lists of English words that happen to be on this machine, one word at the start of a line."""
    places = [Path("/usr/share/dict/words")]
    if (found := importlib.util.find_spec("pocketsphinx")) and found.origin:
        places.append(Path(found.origin).parent / "model" / "en-us" / "cmudict-en-us.dict")
    return [place for place in places if place.is_file()]


def read_word_list(path: Path) -> set[str]:
    """In lower case."""
    return {line.split()[0].lower() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}


def world_words() -> frozenset[str]:
    """All words of the stories, in lower case; names too."""
    told = islice(stories("train", 0), 3000)
    return frozenset(word.strip(".").lower() for story in told for word in story.text.split())


def word_pairs(
    words: Iterable[str], english: Collection[str], pronounce: Sequence[Pronounce], count: int, seed: int
) -> list[WordPair]:
    """`count` pairs (even) of different non-words, partners next to each other; the same seed gives the same pairs.

    `words`: those to take, in lower case; names and words of two letters are left out. `english`: further spellings
    that no non-word may have. `pronounce`: each synthesizer that will speak them. Raises `InputError` where there are
    fewer pairs.
    """
    lexicon = _Lexicon([*world_words(), *HELD_OUT_WORDS], pronounce)
    names = {name.lower() for name in chain.from_iterable(NAMES.values())}
    usable = sorted(word for word in set(words) if len(word) > 2 and word not in names)
    candidates = [candidate for word in usable for candidate in _candidates(word, lexicon, english)]
    rng = random.Random(f"{seed}-nonwords")
    couples = _chosen(_couples(candidates, rng), lexicon, count // 2)
    if len(couples) < count // 2:
        raise InputError(
            f"pairs: {len(usable)} words give {2 * len(couples)} pairs of word and non-word, expected {count}"
        )
    rng.shuffle(couples)
    return [candidate.pair for couple in couples for candidate in couple]


class _Lexicon:
    """What spellings and pronunciations of words are like."""

    def __init__(self, words: Sequence[str], pronounce: Sequence[Pronounce]) -> None:
        self.words = frozenset(words)
        self.forms: tuple[Pronounce, ...] = (tuple, *map(functools.cache, pronounce))
        """Letters, then phones."""
        said = [{form(word) for word in sorted(self.words)} for form in self.forms]
        self.said: list[set[tuple[str, ...]]] = said
        self._neighbours = [Counter(chain.from_iterable(map(_neighbours, forms))) for forms in said]
        self._first = [Counter(a for a, _ in counts.elements()) for counts in self._neighbours]

    def swaps(self, word: str, nonword: str) -> tuple[Swap, ...] | None:
        """None unless `nonword` could be a word, is none, and each form of it differs in one place, by its like."""
        swaps = []
        for number, form in enumerate(self.forms):
            old, new = form(word), form(nonword)
            differing = [(a, b) for a, b in zip(old, new, strict=False) if a != b]
            if len(old) != len(new) or len(differing) != 1 or new in self.said[number]:
                return None
            (a, b) = differing[0]
            if _is_vowel(a) != _is_vowel(b) or any(pair not in self._neighbours[number] for pair in _neighbours(new)):
                return None
            swaps.append((a, b))
        return tuple(swaps)

    def leaning(self, couple: Couple) -> list[int]:
        """For letters and the phones of each synthesizer: how many of the couple's two words are likelier than their
        non-words by pairs of neighbours, less one."""
        return [
            sum(self._likelihood(n, pair.word) > self._likelihood(n, pair.nonword) for pair, _ in couple) - 1
            for n in range(len(self.forms))
        ]

    def _likelihood(self, number: int, spelled: str) -> float:
        counts, first = self._neighbours[number], self._first[number]
        smallest = 1e-9  # for a word that is in no lexicon
        said = _neighbours(self.forms[number](spelled))
        return sum(math.log(max(counts[pair], smallest) / max(first[pair[0]], 1)) for pair in said)


def _neighbours(form: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(pairwise((EDGE, *form, EDGE)))


def _is_vowel(sound: str) -> bool:
    """Of a letter, an IPA phone or one of flite's."""
    return sound[0] in "aeiouæɐɑɒɔəɚɛɜɪʊʌᵻ"


def _candidates(word: str, lexicon: _Lexicon, english: Collection[str]) -> Iterator[_Candidate]:
    for place, letter in enumerate(word):
        for other in VOWELS if letter in VOWELS else CONSONANTS if letter in CONSONANTS else "":
            nonword = word[:place] + other + word[place + 1 :]
            if other != letter and nonword not in english and (swaps := lexicon.swaps(word, nonword)):
                yield _Candidate(WordPair(word, nonword), swaps)


def _couples(candidates: Sequence[_Candidate], rng: random.Random) -> list[Couple]:
    """Candidates whose exchanges undo each other; each is in one couple at most, and so is each non-word."""
    by_swaps: dict[tuple[Swap, ...], list[_Candidate]] = defaultdict(list)
    for candidate in rng.sample(candidates, len(candidates)):
        by_swaps[candidate.swaps].append(candidate)
    couples: list[Couple] = []
    for swaps, found in by_swaps.items():
        back = tuple((b, a) for a, b in swaps)
        if swaps < back:
            couples += zip(found, by_swaps.get(back, []), strict=False)
    return rng.sample(couples, len(couples))


def _chosen(couples: Sequence[Couple], lexicon: _Lexicon, count: int) -> list[Couple]:
    """`count` of them, or as many as there are: words are used evenly, and likelihoods lean to neither side."""
    chosen: list[Couple] = []
    left = [(couple, lexicon.leaning(couple)) for couple in couples]
    uses: Counter[str] = Counter()
    tilt = [0] * len(lexicon.forms)
    for most in range(1, MOST_USES + 1):
        passed, left = left, []
        for couple, leaning in passed:
            spelled = [*{pair.word for pair, _ in couple}, *(pair.nonword for pair, _ in couple)]
            tilted = [old + lean for old, lean in zip(tilt, leaning, strict=True)]
            is_even = all(abs(new) <= max(1, abs(old)) for old, new in zip(tilt, tilted, strict=True))
            fresh = all(uses[pair.word] < most and not uses[pair.nonword] for pair, _ in couple)
            if len(chosen) == count or not is_even or not fresh:
                left.append((couple, leaning))
                continue
            chosen.append(couple)
            uses.update(spelled)
            tilt = tilted
    return chosen
