"""The file tree of the README names every file of the library and every program."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def test_every_file_has_its_line_in_the_tree() -> None:
    tree = (REPO / "README.md").read_text().split("## The house")[1].split("```")[1]
    files = [f for folder in ("spiritlm", "synth_data", "tokenizers", "training", "evals") for f in
             (REPO / folder).rglob("*.py") if f.name != "__init__.py"]  # fmt: skip
    files += (REPO / "launch").glob("*.sh")
    absent = [str(f.relative_to(REPO)) for f in files if not re.search(rf"(?<![\w.]){re.escape(f.name)}(?!\w)", tree)]
    assert not absent
