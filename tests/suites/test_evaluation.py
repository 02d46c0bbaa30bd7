from pathlib import Path

import pytest

from spiritlm.run.files import read_jsonl
from spiritlm.suites.evaluation import evaluate
from spiritlm.suites.figures import published
from spiritlm.suites.official import read_submission
from spiritlm.suites.registry import read_tasks
from spiritlm.suites.sheets import markdown, page


def test_figures_items_and_submission_of_a_model(surface_model, lexical: Path, tmp_path: Path) -> None:
    root = lexical.parents[2]
    tasks = [task for name in ("swuggy", "swuggy_text") for task in read_tasks(name, root, "dev")]
    found = evaluate(surface_model, tasks, tmp_path / "out")
    assert published(found["swuggy_text"])["value"] == 1, "it has read these words"
    heard, official = found["swuggy"], found["swuggy"]["official"]
    assert official["overall"] == pytest.approx(published(heard)["value"])
    assert (heard["n"], published(heard)["items"], official["n_pairs"]) == (6, 4, 4)
    assert "by_pair" not in official and "official" not in found["swuggy_text"]
    items = list(read_jsonl(tmp_path / "out" / "items" / "swuggy.jsonl"))
    submitted = dict(read_submission(tmp_path / "out" / "submission" / "lexical" / "dev.txt"))
    assert len(submitted) == 12
    for item, (word, other) in zip(items, (("catA", "cetA"), ("catB", "cetB")), strict=False):
        assert submitted[word] == item["right"]["total"] / item["right"]["tokens"]
        assert submitted[other] == item["wrong"]["total"] / item["wrong"]["tokens"]
    results = {"model": surface_model.identity, "tasks": found, "apart": {"model": {"weights": "5eed"}, "tasks": found}}
    told = markdown(results)
    assert told.count("| apart") == 1 + 1  # a column, and what it is
    assert "Apart: another model (weights 5eed)." in told
    assert "swuggy, officially, by frequency" in told and "100.0 ± 0.0 *" in told
    page(results).save(tmp_path / "results.html")
    html = (tmp_path / "results.html").read_text()
    assert html.count("data:image/png;base64,") == 1 and "swuggy_text" in html


def test_a_run_that_was_killed_asks_for_nothing_twice(surface_model, lexical: Path, tmp_path: Path) -> None:
    """It dies in its second task."""
    tasks = [task for name in ("swuggy", "swuggy_text") for task in read_tasks(name, lexical.parents[2], "dev")]
    asked: list[int] = []

    class Mortal:
        identity = surface_model.identity

        def loglikelihood(self, requests):
            asked.append(len(requests))
            if len(asked) == 2:
                raise KeyboardInterrupt
            return surface_model.loglikelihood(requests)

    with pytest.raises(KeyboardInterrupt):
        evaluate(Mortal(), tasks, tmp_path / "out")
    found = evaluate(Mortal(), tasks, tmp_path / "out")
    assert asked == [12, 8, 8]
    assert found == evaluate(surface_model, tasks, tmp_path / "undisturbed")
