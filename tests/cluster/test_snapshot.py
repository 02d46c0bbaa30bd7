import subprocess
from pathlib import Path

from spiritlm.cluster.snapshot import commit, snapshot_code, write_recipe
from spiritlm.config import load_recipe
from spiritlm.engine.recipe import PretrainRecipe

REPO = Path(__file__).resolve().parents[2]


def test_programs_and_library_are_copied_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "code" / "old").mkdir(parents=True)
    snapshot_code(REPO, tmp_path / "code")
    copied = {str(file.relative_to(tmp_path / "code")) for file in (tmp_path / "code").rglob("*") if file.is_file()}
    assert {"spiritlm/run/stage.py", "training/pretrain.py", "training/recipes/small.toml", "COMMIT"} <= copied
    assert not [name for name in copied if "__pycache__" in name or name.startswith(("tests", "runs", "docs", "old"))]
    assert (tmp_path / "code" / "spiritlm/run/stage.py").read_bytes() == (REPO / "spiritlm/run/stage.py").read_bytes()


def test_a_commit_names_what_differs_from_it(tmp_path: Path) -> None:
    assert commit(tmp_path) == "no git checkout"
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a").write_text("1")
    for arguments in (["init", "-q"], ["add", "a"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *arguments], check=True)
    clean = commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "a").write_text("2")
    assert commit(tmp_path) == f"{clean}\n M a"


def test_a_resolved_recipe_reads_back_the_same(tmp_path: Path) -> None:
    for name in ("small", "spirit-base-7b", "debug"):
        recipe = load_recipe(PretrainRecipe, REPO / "training" / "recipes" / f"{name}.toml")
        write_recipe(tmp_path / "recipe.toml", recipe.model_dump(mode="json"))
        assert load_recipe(PretrainRecipe, tmp_path / "recipe.toml") == recipe
