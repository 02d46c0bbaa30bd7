from pathlib import Path

from spiritlm.run.metrics import Metrics, read_metrics


def test_rows_after_the_checkpoint_and_a_cut_line_are_dropped_on_resume(tmp_path: Path) -> None:
    with Metrics(tmp_path) as metrics:
        for step in range(1, 6):
            metrics.log(step, loss=float(step))
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 6, "lo')
    with Metrics(tmp_path, resume_step=3) as metrics:
        metrics.log(4, loss=40.0)
    assert [(row["step"], row["loss"]) for row in read_metrics(tmp_path)] == [(1, 1), (2, 2), (3, 3), (4, 40)]


def test_a_tracker_that_is_not_installed_does_not_stop_the_run(tmp_path: Path) -> None:
    with Metrics(tmp_path, trackers=("wandb",)) as metrics:
        metrics.log(1, loss=1.0)
    assert len(read_metrics(tmp_path)) == 1
