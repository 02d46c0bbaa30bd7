from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from spiritlm.smallworld.scenarios import GOOD_MOODS
from spiritlm.smallworld.sentiments import EMOV, EXAMPLES, MOODS, READ, TOLD, SentimentPlan, plan_sentiments
from spiritlm.smallworld.stories import stories
from spiritlm.smallworld.telling import record

SEEN, UNSEEN = ("espeak:en-us", "espeak:en-us+f2"), ("espeak:en-us+m2",)


@pytest.fixture(scope="module")
def plan() -> SentimentPlan:
    return plan_sentiments(24, 0, SEEN, UNSEEN)


@pytest.fixture(scope="module")
def manifests(plan: SentimentPlan) -> dict[Path, list[dict[str, Any]]]:
    """As if every word took a second."""
    facts = []
    for telling in plan.tellings[TOLD]:
        words = [text.split() for text in telling.sentences]
        starts = iter(range(100))
        rows = [[(word, float(start), start + 1.0) for word, start in zip(s, starts, strict=False)] for s in words]
        facts.append({"sentences": rows, "duration": float(sum(map(len, words)))})
    return plan.manifests({TOLD: facts})


def test_the_same_seed_plans_the_same(plan: SentimentPlan) -> None:
    assert plan_sentiments(30, 0, SEEN, UNSEEN) == plan != plan_sentiments(24, 1, SEEN, UNSEEN)


def test_moods_and_kinds_of_voices_are_even(plan: SentimentPlan) -> None:
    for folder in (EMOV, READ):
        told = plan.tellings[folder]
        assert set(Counter((one.moods[0], one.voice in UNSEEN) for one in told).values()) == {3}
        assert len({one.id for one in told}) == len(told) == 24
    assert set(Counter(story.mood for story in plan.written).values()) == {6}
    assert set(Counter(one.moods[0] for one in plan.tellings[TOLD]).values()) == {EXAMPLES // len(MOODS)}
    assert not {one.voice for one in plan.tellings[TOLD]} & set(UNSEEN)


def test_neutral_words_are_told_in_every_mood(plan: SentimentPlan) -> None:
    by_text = Counter(one.sentences for one in plan.tellings[EMOV])
    assert set(by_text.values()) == {len(MOODS)} and {len(sentences) for sentences in by_text} == {3}
    voices = {sentences: {t.voice for t in plan.tellings[EMOV] if t.sentences == sentences} for sentences in by_text}
    assert all(len(found) == 1 for found in voices.values())


def test_prompts_are_held_out_and_examples_are_not(plan: SentimentPlan) -> None:
    told = zip(range(3000), stories("test", 0), strict=False)
    test = {story.beginning: story.mood for _, story in told}
    beginnings = {sentences[:3] for sentences in test}
    assert all(one.sentences in beginnings for one in plan.tellings[EMOV])
    assert all(test[one.sentences] == one.moods[0] for one in plan.tellings[READ])  # type: ignore[index]
    assert all(test[story.beginning] == story.mood for story in plan.written)
    train = {story.sentences for _, story in zip(range(1000), stories("train", 0), strict=False)}
    assert all(one.sentences in train for one in plan.tellings[TOLD])
    prompts = [one.sentences for one in plan.tellings[READ]] + [story.beginning for story in plan.written]
    assert len(set(prompts)) == len(prompts)


def test_manifests_in_the_published_layout(plan: SentimentPlan, manifests: dict[Path, list[dict[str, Any]]]) -> None:
    emov = manifests[Path("manifest/emov/emov.test.jsonl")]
    assert emov[1] == {
        "id": 1, "emotion": "excited", "sentiment": "positive", "split": "test", "wav_path": "emov/0000_excited.wav",
        "speaker": plan.tellings[EMOV][1].voice,
    }  # fmt: skip
    read, written = (manifests[Path(f"manifest/expresso/expresso_{name}.test.jsonl")] for name in ("read", "asr"))
    assert [row["wav_path"] for row in read] == [f"expresso/read/{one.id}.wav" for one in plan.tellings[READ]]
    assert [row["asr"] for row in written] == [" ".join(story.beginning) for story in plan.written]
    for rows in (emov, read, written):
        assert [row["id"] for row in rows] == list(range(24))
        assert all((row["sentiment"] == "positive") == (row["emotion"] in GOOD_MOODS) for row in rows)
        assert Counter(row["sentiment"] for row in rows) == {"positive": 12, "negative": 12}


def test_examples_are_cut_in_the_middle_of_their_recordings(
    plan: SentimentPlan, manifests: dict[Path, list[dict[str, Any]]]
) -> None:
    rows = {name: manifests[Path(f"manifest/few_shot/{name}.jsonl")] for name in ("t2t", "t2s", "s2t", "s2s")}
    for number, telling in enumerate(plan.tellings[TOLD]):
        wav = f"expresso/conversational/{telling.id}.wav"
        halves = rows["t2t"][number]
        assert f"{halves['prompt']} {halves['generation']}" == " ".join(telling.sentences)
        assert abs(len(halves["generation"].split()) - len(halves["prompt"].split())) <= 1
        assert rows["t2s"][number] == {**halves, "generation": wav}
        assert rows["s2t"][number] == {**halves, "prompt": wav}
        assert rows["s2s"][number] == {**halves, "prompt": wav, "generation": wav}


def test_words_are_cut_where_a_real_recording_is(plan: SentimentPlan) -> None:
    telling = plan.tellings[TOLD][0]
    recording = record(telling)
    facts = {"sentences": recording.sentences, "duration": len(recording.wave) / 16_000}
    one = SentimentPlan({**plan.tellings, TOLD: [telling]}, plan.written).manifests({TOLD: [facts]})
    halves = one[Path("manifest/few_shot/t2t.jsonl")][0]
    assert f"{halves['prompt']} {halves['generation']}" == " ".join(telling.sentences)
    assert abs(len(halves["prompt"]) - len(halves["generation"])) < 40
