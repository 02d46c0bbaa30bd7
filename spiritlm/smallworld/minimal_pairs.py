"""Sentences of held-out stories beside the same sentences with one thing wrong, as in BLiMP.

Pairs are made two at a time: the form that is wrong in one is right in its partner and the other way about. Beside
"Tom and (his, not her) mother" stands "Anna and (her, not his) mother". So every word is as often right as wrong, and
a scorer that knows single words, or lengths, is at chance. Both members of a pair have equally many words.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple

from spiritlm.errors import InputError
from spiritlm.smallworld.scenarios import SCENARIOS
from spiritlm.smallworld.stories import Story, stories

PATIENCE = 5000
"""Stories that are looked at for one more couple of a subtype before giving up."""


class MinimalPair(NamedTuple):
    type: str
    subtype: str
    right: str
    wrong: str


class _Choice(NamedTuple):
    """A place in a text where grammar takes `right` and refuses `wrong`."""

    text: str
    """`{}` at the place."""
    right: str
    wrong: str
    alike: str
    """Equal in partners."""

    @property
    def pair(self) -> tuple[str, str]:
        return self.text.format(self.right), self.text.format(self.wrong)

    def key(self, exchanged: bool = False) -> tuple[str, str, str]:
        """What a partner's exchanged key equals. A change of order alone is its own partner's."""
        if Counter(self.right.split()) == Counter(self.wrong.split()):
            return self.alike, "", ""
        return (self.alike, self.wrong, self.right) if exchanged else (self.alike, self.right, self.wrong)


def told_texts(texts: Iterable[Iterable[str]]) -> set[str]:
    """Every sentence of some stories, and every two that follow each other; `texts`: the sentences of each story."""
    told: set[str] = set()
    for sentences in map(list, texts):
        told.update(sentences)
        told.update(f"{a} {b}" for a, b in pairwise(sentences))
    return told


def minimal_pairs(count: int, seed: int, told: Collection[str] = frozenset()) -> list[MinimalPair]:
    """`count` pairs (even), partners next to each other, subtypes by turns; the same seed gives the same pairs.

    No right member is in `told`, see `told_texts`, and no subtype has one twice. Raises `InputError` where stories of
    the test split do not give so many.
    """
    kinds = list(SUBTYPES)
    wanted = {kind: len(range(number, count // 2, len(kinds))) for number, kind in enumerate(kinds)}
    found: dict[str, list[tuple[_Choice, _Choice]]] = {kind: [] for kind in kinds}
    grown = dict.fromkeys(kinds, 0)
    waiting: dict[tuple[str, ...], list[_Choice]] = defaultdict(list)
    used: set[tuple[str, str]] = set()
    for number, story in enumerate(stories("test", seed)):
        short = [kind for kind in kinds if len(found[kind]) < wanted[kind]]
        if not short:
            break
        for kind in short:
            for choice in SUBTYPES[kind].choices(story):
                right, _ = choice.pair
                if right in told or (kind, right) in used:
                    continue
                used.add((kind, right))
                if others := waiting[(kind, *choice.key(exchanged=True))]:
                    found[kind].append((others.pop(), choice))
                    grown[kind] = number
                else:
                    waiting[(kind, *choice.key())].append(choice)
            if number - grown[kind] > PATIENCE:
                have, need = 2 * len(found[kind]), 2 * wanted[kind]
                raise InputError(f"pairs: held-out stories give {have} pairs of {kind}, expected {need}")
    turns = ((kinds[n % len(kinds)], n // len(kinds)) for n in range(count // 2))
    return [
        MinimalPair(SUBTYPES[kind].type, kind, *choice.pair) for kind, number in turns for choice in found[kind][number]
    ]


HIS = {"he": "his", "she": "her"}
HE = {"he": "he", "she": "she"}
HIMSELF = {"he": "himself", "she": "herself"}
WITHOUT_PAST = {"put", "never", "read"}
"""First words of an ending that are no past, or look like their base."""


def _gendered(story: Story, text: str, forms: dict[str, str]) -> _Choice:
    """Partners tell the same of a name of the other gender. `text`: with `{}` where the form stands."""
    wrong, right = sorted(forms, key=lambda pronoun: pronoun == story.pronoun)
    return _Choice(text, forms[right], forms[wrong], text.replace(story.name, "NAME"))


def _capital(forms: dict[str, str]) -> dict[str, str]:
    return {pronoun: form.capitalize() for pronoun, form in forms.items()}


def _his_with(story: Story) -> Iterator[_Choice]:
    """Tom went to the lake with his mother."""
    if " with " in story.beginning[0]:
        yield _gendered(story, _opened(story.beginning[0], HIS[story.pronoun]), HIS)


def _his_and(story: Story) -> Iterator[_Choice]:
    """Tom and his mother visited the lake."""
    if " visited " in story.beginning[0]:
        yield _gendered(story, _opened(story.beginning[0], HIS[story.pronoun]), HIS)


def _his_before(story: Story) -> Iterator[_Choice]:
    """His mother gave Tom the net."""
    forms = _capital(HIS)
    if " gave " in story.beginning[2]:
        yield _gendered(story, _opened(story.beginning[2], forms[story.pronoun]), forms)


def _he_after(story: Story) -> Iterator[_Choice]:
    """Last week Tom was at the lake. He wanted to catch a big fish."""
    (first, second, *_), forms = story.beginning, _capital(HE)
    if HIS[story.pronoun] not in first.split() and second.startswith(f"{forms[story.pronoun]} "):
        yield _gendered(story, f"{first} {_opened(second, forms[story.pronoun])}", forms)


def _himself(story: Story) -> Iterator[_Choice]:
    """Tom gave himself the net. No story has the words himself and herself."""
    scenario = SCENARIOS[story.scenario]
    for thing in (scenario.tool, scenario.objects[story.object]):
        yield _gendered(story, f"{story.name} gave {{}} the {thing}.", HIMSELF)


def _a_an(story: Story) -> Iterator[_Choice]:
    """Tom was at the market. He wanted to sell an old clock, or a old clock; a big fish, or an big fish."""
    first, second = story.beginning[:2]
    for article, other in (("a", "an"), ("an", "a")):
        if article in second.split():
            yield _Choice(f"{first} {_opened(second, article)}", article, other, "")


def _was_were(story: Story) -> Iterator[_Choice]:
    """The hammer was ready by noon. Then the nails were bent, or was bent; the wood was smooth, or were smooth."""
    third, fourth = story.beginning[2:]
    for verb, other in (("was", "were"), ("were", "was")):
        if fourth.split().count(verb) == 1:
            yield _Choice(f"{third} {_opened(fourth, verb)}", verb, other, "")


def _base_past(story: Story) -> Iterator[_Choice]:
    """He wanted to catch a big fish, or fried a big fish; In the end Tom fried the fish, or catch the fish.

    No verb of these stories has both forms, so the two are of the wish and the ending of one scenario.
    """
    base, past = SCENARIOS[story.scenario].wish.split()[0], story.action.split()[0]
    if not {base, past} & WITHOUT_PAST:
        yield _Choice(f"{story.beginning[0]} {_opened(story.beginning[1], base)}", base, past, "")
        yield _Choice(_opened(story.ending, past), past, base, "")


def _adjective_noun(story: Story) -> Iterator[_Choice]:
    """He wanted to catch a big fish, or a fish big."""
    adjective, noun = SCENARIOS[story.scenario].wish.split()[-1], SCENARIOS[story.scenario].objects[story.object]
    right = f"{adjective} {noun}"
    yield _Choice(f"{story.beginning[0]} {_opened(story.beginning[1], right)}", right, f"{noun} {adjective}", "")


def _the_noun(story: Story) -> Iterator[_Choice]:
    """Tom went to the lake with his mother, or to lake the with his mother."""
    place = SCENARIOS[story.scenario].place
    yield _Choice(_opened(story.beginning[0], f"the {place}"), f"the {place}", f"{place} the", "")


def _opened(text: str, form: str) -> str:
    """`text` with `{}` in place of the only `form`, as whole words."""
    opened, count = re.subn(rf"\b{re.escape(form)}\b", "{}", text)
    assert count == 1, (text, form)
    return opened


class _Subtype(NamedTuple):
    type: str
    choices: Callable[[Story], Iterator[_Choice]]


SUBTYPES = {
    "his_with": _Subtype("anaphor_agreement", _his_with),
    "his_and": _Subtype("anaphor_agreement", _his_and),
    "his_before": _Subtype("anaphor_agreement", _his_before),
    "he_after": _Subtype("anaphor_agreement", _he_after),
    "himself": _Subtype("reflexive", _himself),
    "a_an": _Subtype("article", _a_an),
    "was_were": _Subtype("subject_verb_agreement", _was_were),
    "base_past": _Subtype("verb_form", _base_past),
    "adjective_noun": _Subtype("word_order", _adjective_noun),
    "the_noun": _Subtype("word_order", _the_noun),
}
"""By name; each yields the choices that a story has."""
