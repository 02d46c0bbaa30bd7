import csv
import io
from collections.abc import Callable, Sequence
from itertools import cycle, islice, product
from pathlib import Path

import pytest

from spiritlm.run.files import write_text
from spiritlm.scoring.judges import Judges
from spiritlm.scoring.protocol import Answer, Question, Request, Score
from spiritlm.smallworld.questions import AUDIOS, SETS, Plan, half_told, outcome_words, plan, topic_words
from spiritlm.smallworld.recording import cut_shards, record_shards
from spiritlm.smallworld.scenarios import GOOD_MOODS, SCENARIOS
from spiritlm.smallworld.stories import Story, stories
from spiritlm.suites.asked import ask
from spiritlm.suites.spoken_qa import read

VOICES = [("espeak:en-us+f3", "espeak:en-us+m2")] * 2 + [("espeak:en-us+f3", "espeak:en-us+f5")] * 2
COUPLES = 40


def words(text: str) -> set[str]:
    return set(text.lower().replace(".", "").split())


@pytest.fixture(scope="module")
def told() -> list[Story]:
    return half_told(COUPLES, 0)


@pytest.fixture(scope="module")
def planned() -> Plan:
    return plan(COUPLES, 0, cycle(VOICES))


def table(planned: Plan, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(planned.files[Path(f"{name}.csv")])))


def test_partners_differ_in_how_it_ends_alone(told: list[Story]) -> None:
    assert len(told) == 2 * COUPLES and len({story.text for story in told}) == 2 * COUPLES
    for one, two in zip(told[::2], told[1::2], strict=True):
        assert (one.name, one.scenario, one.object) == (two.name, two.scenario, two.object)
        assert (one.mood in GOOD_MOODS) != (two.mood in GOOD_MOODS)
        assert one.split == two.split == "test"
        assert topic_words(one) == topic_words(two) and not {*outcome_words(one)} & {*outcome_words(two)}


def test_right_words_are_said_where_they_should_and_nowhere_else() -> None:
    endings: dict[tuple[int, bool], Story] = {}
    for story in islice(stories("test", 5), 6000):
        endings.setdefault((story.scenario, story.mood in GOOD_MOODS), story)
    assert len(endings) == 2 * len(SCENARIOS)
    own = {word: key for key, story in endings.items() for word in outcome_words(story)}
    for split, seed in product(("train", "test"), (7, 8)):
        for story in islice(stories(split, seed), 3000):
            key = story.scenario, story.mood in GOOD_MOODS
            assert {own.get(word) for word in words(story.ending)} <= {None, key}, story.ending
            assert not own.keys() & words(" ".join(story.beginning)), story.beginning
            assert {*outcome_words(story)} <= words(story.ending)
            assert {*topic_words(story)} <= words(story.ending) & words(" ".join(story.beginning))
    without = {SCENARIOS[scenario].place for (scenario, _), story in endings.items() if not outcome_words(story)}
    assert without == {"forest", "office"}


def test_scenarios_without_own_words_are_left_out() -> None:
    places = {SCENARIOS[story.scenario].place for story in half_told(300, 1)}
    assert places == {scenario.place for scenario in SCENARIOS} - {"forest", "office"}


def test_the_seed_repeats_and_matters() -> None:
    assert plan(5, 1, VOICES * 3) == plan(5, 1, VOICES * 3) != plan(5, 2, VOICES * 3)


def test_neither_voice_nor_mood_says_how_it_ends(planned: Plan) -> None:
    rows = table(planned, "outcome_qa")
    fitting = []
    for number, (one, two) in enumerate(zip(rows[::2], rows[1::2], strict=True)):
        assert (one["voice"], one["mood"], one["scenario"]) == (two["voice"], two["mood"], two["scenario"])
        assert one["voice"] == VOICES[2 * number % 4][number % 2]
        assert {one["ends"], two["ends"]} == {"well", "badly"}
        fitting.append((one["mood"] in GOOD_MOODS) == (one["ends"] == "well"))
    assert fitting == [False, False, True, True] * 10 or fitting == [True, True, False, False] * 10
    assert [telling.moods for (telling,) in planned.tellings] == [(row["mood"],) * 4 for row in rows]


def test_rows_tell_of_the_recordings(planned: Plan, told: list[Story]) -> None:
    assert set(planned.files) == {Path(f"{name}.csv") for name in SETS}
    topic, outcome = (table(planned, name) for name in SETS)
    for story, (telling,), one, two in zip(told, planned.tellings, topic, outcome, strict=True):
        assert one | {"answers": ""} == two | {"answers": ""}
        assert one["audio_filename"] == f"{telling.id}.wav" and one["question"] == " ".join(telling.sentences)
        assert telling.sentences == story.beginning
        assert (one["answers"], two["answers"]) == (";".join(topic_words(story)), ";".join(outcome_words(story)))


class Teller:
    """Answers with what it is made to say of each question's story."""

    identity: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, told: Sequence[Story], says: Callable[[Story, Story], str]) -> None:
        partners = [told[number ^ 1] for number in range(len(told))]
        self._says = [says(story, partner) for story, partner in zip(told, partners, strict=True)]

    def loglikelihood(self, requests: Sequence[Request]) -> list[Score]:
        raise NotImplementedError

    def generate(self, questions: Sequence[Question]) -> list[Answer]:
        return list(self._says)


def test_what_listeners_of_each_kind_are_right_in(told: list[Story], tmp_path: Path) -> None:
    some = plan(COUPLES, 0, cycle(VOICES))
    shards = list(cut_shards("story_qa", AUDIOS, some.tellings[:2], 2))
    record_shards("speak", tmp_path, shards, workers=1)
    for path, text in some.files.items():
        write_text(tmp_path / path, text)
    spoken = (tmp_path / AUDIOS / "0000.wav").read_bytes()
    for number in range(2, 2 * COUPLES):
        (tmp_path / AUDIOS / f"{number:04d}.wav").write_bytes(spoken)

    def shares(says: Callable[[Story, Story], str]) -> list[float]:
        tasks = [task for name in SETS for task in read(name, tmp_path, Judges()) if task.name.endswith("S>T")]
        found = ask(Teller(told, says), tasks, tmp_path / "out")
        return [found[task.name]["value"] for task in tasks]

    assert shares(lambda story, partner: story.ending) == [1, 1]
    assert shares(lambda story, partner: partner.ending) == [1, 0]
    assert shares(lambda story, partner: max(story.ending, partner.ending)) == [1, 0.5]
    assert shares(lambda story, partner: " ".join(story.beginning)) == [1, 0]
    assert shares(lambda story, partner: "In the end Tom was glad.") == [0, 0]
    (heard, *_) = read("outcome_qa", tmp_path, Judges())
    found = ask(Teller(told, lambda s, p: s.ending), [heard], tmp_path / "out")[heard.name]
    assert found["chance"]["value"] < 0.08
