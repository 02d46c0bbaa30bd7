import math
from pathlib import Path

import numpy as np
import pytest

from spiritlm.errors import InputError
from spiritlm.inference.request import Speech, greedy
from spiritlm.run.files import read_jsonl
from spiritlm.scoring.protocol import Question
from spiritlm.suites.asked import AskedTask, Grade, Item, ask, asked_figures


def item(id: str, **labels: str) -> Item:
    return Item(id, Question((f"what is {id}?",), "text", greedy(5)), (id,), labels)


def task(items: list[Item], metric: str = "accuracy", judge=None) -> AskedTask:
    return AskedTask("which", 3, "test", items, judge, metric, note="by hand")  # type: ignore[arg-type]


class Echo:
    """Says what it was asked, in letters or in as many samples."""

    def __init__(self) -> None:
        self.identity, self.asked = {"model": "echo"}, 0

    def generate(self, questions):
        self.asked += len(questions)
        return [
            str(q.prompt[0]) if q.output == "text" else Speech(np.full(len(q.prompt[0]), 0.5, np.float32), 16000)
            for q in questions
        ]


def right_where_named(items, answers):
    return [Grade(float(i.expected[0] in str(a)), 1.0, str(a)) for i, a in zip(items, answers, strict=True)]


def test_repetitions_of_an_item_are_one_observation() -> None:
    items = [item(f"{name}{n}", item=name, voice="x" if n else "y") for name in "abc" for n in range(4)]
    grades = [Grade(float(name == "a" or (name == "b" and n < 2)), 1.0, "") for name in "abc" for n in range(4)]
    found = asked_figures(task(items), grades)
    assert (found["n"], found["items"]) == (12, 3)
    assert found["value"] == pytest.approx(0.5)
    means = np.array([1.0, 0.5, 0.0])
    assert found["standard_error"] == pytest.approx(means.std(ddof=1) / math.sqrt(3))
    assert {value: one["n"] for value, one in found["by"]["voice"].items()} == {"x": 9, "y": 3}
    assert "chance" not in found and "item" not in found["by"]


def test_error_rates_are_of_all_words_and_chance_stands_beside() -> None:
    items = [item("a"), item("b")]
    found = asked_figures(task(items, "WER"), [Grade(3, 4, "", 4.0), Grade(0, 16, "", 12.0)])
    assert found["value"] == pytest.approx(3 / 20)
    assert found["chance"]["value"] == pytest.approx(16 / 20)
    assert found["difference"]["value"] == pytest.approx(-13 / 20)


def test_a_perplexity_is_the_exponential_of_its_mean() -> None:
    found = asked_figures(task([item("a"), item("b")], "perplexity"), [Grade(4.0, 2, ""), Grade(5.0, 1, "")])
    assert found["value"] == pytest.approx(math.exp(3))
    assert found["standard_error"] == pytest.approx(math.exp(3) * 1.5)


def test_answers_are_kept_and_tasks_that_share_items_are_asked_once(tmp_path: Path) -> None:
    items = [item("a"), item("b")]
    spoken = [
        Item("s", Question(("abcd",), "speech", greedy(5)), ("x",)),
        Item("t", Question(("",), "speech", greedy(5))),
    ]
    model = Echo()
    tasks = [
        task(items, judge=right_where_named),
        AskedTask("again S>T", 1, "test", items, right_where_named, "accuracy"),
        AskedTask("aloud S>S", 1, "test", spoken, lambda i, a: [Grade(0, 1, "")] * len(i), "accuracy"),
    ]
    found = ask(model, tasks, tmp_path)  # type: ignore[arg-type]
    assert model.asked == 4
    assert found["which"]["value"] == found["again S>T"]["value"] == 1
    rows = list(read_jsonl(tmp_path / "items" / "again_S_T.jsonl"))
    assert [(row["id"], row["text"], row["points"]) for row in rows] == [("a", "what is a?", 1), ("b", "what is b?", 1)]
    rows = list(read_jsonl(tmp_path / "items" / "aloud_S_S.jsonl"))
    assert "wav" not in rows[1] and "text" not in rows[1]
    assert len(Speech.read(tmp_path / rows[0]["wav"]).wave) == 4
    with pytest.raises(InputError, match="task which: has no items"):
        ask(model, [task([])], tmp_path)  # type: ignore[arg-type]
