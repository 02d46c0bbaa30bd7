from collections import Counter
from pathlib import Path

import pytest

from spiritlm.errors import InputError
from spiritlm.smallworld import flite
from spiritlm.smallworld.nonwords import HELD_OUT_WORDS, WordPair, read_word_list, word_lists, word_pairs, world_words
from spiritlm.smallworld.voices import pronouncers

PRONOUNCE = list(pronouncers(["espeak:en-us+f3", *(["flite:slt"] if flite.is_installed() else [])]).values())
ENGLISH = set().union(*map(read_word_list, word_lists()))


@pytest.fixture(scope="module")
def pairs() -> list[WordPair]:
    known = word_pairs(world_words(), ENGLISH, PRONOUNCE, 800, seed=0)
    return known + word_pairs(HELD_OUT_WORDS, ENGLISH | {pair.nonword for pair in known}, PRONOUNCE, 200, seed=0)


def test_a_nonword_is_no_word_and_sounds_like_none(pairs: list[WordPair]) -> None:
    lexicon = world_words() | set(HELD_OUT_WORDS)
    assert {pair.word for pair in pairs} <= lexicon
    assert not {pair.nonword for pair in pairs} & (lexicon | ENGLISH)
    assert len({pair.nonword for pair in pairs}) == len(pairs) == 1000
    for pronounce in PRONOUNCE:
        said = {pronounce(word) for word in lexicon}
        assert all(pronounce(pair.nonword) not in said for pair in pairs)


def test_one_letter_and_one_phone_are_exchanged(pairs: list[WordPair]) -> None:
    for form in (tuple, *PRONOUNCE):
        for pair in pairs:
            word, nonword = form(pair.word), form(pair.nonword)
            assert len(word) == len(nonword)
            assert sum(a != b for a, b in zip(word, nonword, strict=True)) == 1


def neighbours(word: tuple[str, ...]) -> list[tuple[str, str]]:
    return list(zip(("#", *word), (*word, "#"), strict=True))


def test_neighbours_are_those_of_words(pairs: list[WordPair]) -> None:
    for form in (tuple, *PRONOUNCE):
        known = {two for word in world_words() | set(HELD_OUT_WORDS) for two in neighbours(form(word))}
        assert all(set(neighbours(form(pair.nonword))) <= known for pair in pairs)


def test_single_letters_and_phones_say_nothing(pairs: list[WordPair]) -> None:
    """What partners gain and lose of each letter and phone, all words against all non-words, is the same."""
    for form in (tuple, *PRONOUNCE):
        for one, two in zip(pairs[::2], pairs[1::2], strict=True):
            right = Counter([*form(one.word), *form(two.word)])
            assert right == Counter([*form(one.nonword), *form(two.nonword)])


def test_neighbours_say_nothing_either(pairs: list[WordPair]) -> None:
    """What is likelier by the counts of the lexicon is the word as often as the non-word."""
    for form in (tuple, *PRONOUNCE):
        said = {form(word) for word in sorted(world_words() | set(HELD_OUT_WORDS))}
        counts = Counter(two for word in said for two in neighbours(word))
        first = Counter(a for word in said for a, _ in neighbours(word))

        def likelihood(word: str, form=form, counts=counts, first=first) -> float:
            product = 1.0
            for two in neighbours(form(word)):
                product *= counts[two] / first[two[0]]
            return product

        won = sum(likelihood(pair.word) > likelihood(pair.nonword) for pair in pairs)
        assert abs(won - 500) <= 3


def test_the_seed_repeats_and_matters() -> None:
    some = HELD_OUT_WORDS[:60]
    first, again, other = (word_pairs(some, ENGLISH, PRONOUNCE, 20, seed) for seed in (1, 1, 2))
    assert first == again != other


def test_too_few_words_are_one_line() -> None:
    with pytest.raises(InputError, match="2 words give 0 pairs of word and non-word, expected 40"):
        word_pairs(["lake", "tom", "net"], ENGLISH, PRONOUNCE, 40, 0)


def test_held_out_words_are_of_no_story() -> None:
    assert not world_words() & set(HELD_OUT_WORDS)
    assert len(set(HELD_OUT_WORDS)) == len(HELD_OUT_WORDS)


def test_a_word_list_is_read_whatever_stands_behind_its_words(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("Rake R EY K\n\ncake\n")
    assert read_word_list(tmp_path / "words") == {"rake", "cake"}
