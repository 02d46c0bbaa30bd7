"""Batch scripts as they are submitted; those of 1, 8 and 64 nodes lie in `rendered/`."""

import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spiritlm.cluster.batch import Job, render
from spiritlm.cluster.site import SiteRecipe
from spiritlm.config import load_recipe, validate_recipe
from spiritlm.errors import InputError

REPO = Path(__file__).resolve().parents[2]
TEMPLATES = REPO / "launch" / "slurm"
RENDERED = Path(__file__).parent / "rendered"
RUN = Path("/lustre/runs/spirit-base-7b/lm")
JOB = Job(
    "training/pretrain.py", RUN, RUN / "recipe.toml", RUN / "code", Path("/lustre/work"), "/lustre/env/bin/python"
)
SITE = SiteRecipe(
    account="speech", partition="gpu", qos="high", modules=("cuda/12.8",), environment={"NCCL_SOCKET_IFNAME": "ib0"},
    sbatch={"constraint": "h100", "comment": "two words"},
)  # fmt: skip


def script(job: Job = JOB, site: SiteRecipe = SITE, name: str = "pretrain") -> str:
    return render((TEMPLATES / f"{name}.sbatch").read_text(), job, site)


@pytest.mark.parametrize("nodes", [1, 8, 64])
def test_scripts_are_those_that_were_read_before(nodes: int, request: pytest.FixtureRequest) -> None:
    found = script(replace(JOB, nodes=nodes, gpus_per_node=8, ranks_per_node=8))
    assert found == (RENDERED / f"pretrain-{nodes}.sbatch").read_text()


@pytest.mark.parametrize("path", sorted([*TEMPLATES.glob("*"), *RENDERED.glob("*.sbatch")]), ids=lambda path: path.name)
def test_shellcheck_finds_nothing(path: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    done = subprocess.run(["shellcheck", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_container_stands_before_the_launcher() -> None:
    site = SiteRecipe(
        container_image="nvcr.io#nvidia/pytorch:25.04-py3", container_mounts=("/lustre", "/home:/home"), python="python"
    )
    lines = script(site=site).splitlines()
    (found,) = [line.partition("  # ")[0] for line in lines if line.startswith("container=")]
    image, workdir, mounts = shlex.split(found.removeprefix("container=(").removesuffix(")"))
    assert image == "--container-image=nvcr.io#nvidia/pytorch:25.04-py3"
    assert (workdir, mounts) == ("--container-workdir=/lustre/work", "--container-mounts=/lustre,/home:/home")


def test_what_is_not_asked_for_is_not_in_the_script() -> None:
    lines = script(site=SiteRecipe()).splitlines()
    directives = [line for line in lines if line.startswith("#SBATCH")]
    assert not [line for line in directives if "account" in line or "qos" in line or "gpus" in line]
    assert [line for line in lines if line.startswith("container=")] == [
        "container=()  # options of srun, for example --container-image=FILE"
    ]


def said(found: str, variable: str) -> str:
    """What bash makes of a variable of the settings."""
    block = found[found.index("# ---- settings") : found.index("# ---- end of settings")]
    program = f'module() {{ :; }}\n{block}\nprintf %s "${variable}"'
    return subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True).stdout


def test_directives_can_be_taken_away() -> None:
    lines = script(site=SiteRecipe(sbatch={"mem": False, "exclusive": False, "gres": "gpu:8", "no-kill": True}))
    directives = [line for line in lines.splitlines() if line.startswith("#SBATCH")]
    assert {"#SBATCH --gres=gpu:8", "#SBATCH --no-kill"} <= set(directives)
    assert not [line for line in directives if "mem" in line or "exclusive" in line]


@given(value=st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), max_size=20))
def test_a_variable_of_the_site_is_said_as_it_is(value: str) -> None:
    found = script(site=SiteRecipe(environment={"ODD": value}))
    block = found[found.index("# ---- settings") : found.index("# ---- end of settings")]
    asked = subprocess.run(
        ["bash", "-c", f'module() {{ :; }}\n{block}\nprintf %s "$ODD"'], capture_output=True, text=True, check=True
    )
    assert asked.stdout == value


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20))
def test_a_name_is_said_as_it_is_or_refused(name: str) -> None:
    """Whatever the run is called, bash reads the same name back, and sbatch reads one directive."""
    job = replace(JOB, run=Path("/runs") / name)
    try:
        found = script(job)
    except InputError:
        assert not name.isprintable() or '"' in name or "\\" in name
        return
    block = found[found.index("# ---- settings") : found.index("# ---- end of settings")]
    asked = subprocess.run(
        ["bash", "-c", f'module() {{ :; }}\n{block}\nprintf %s "$run"'], capture_output=True, text=True, check=True
    )
    assert asked.stdout == str(job.run)
    assert found.count("#SBATCH --output=") == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"account": "a\n#SBATCH --x"}, "account = 'a\\\\n#SBATCH --x': expected one line"),
        ({"environment": {"A": "1\n2"}}, r"environment\.A = '1\\n2': expected one line"),
        ({"sbatch": {"a\nb": "c"}}, "expected one line"),
        ({"environment": {"A; rm -rf x": "1"}}, "expected the name of a variable"),
        ({"container_image": "image"}, "expected with python"),
        (
            {"container_image": "/absent.sqsh", "python": "python"},
            "/absent.sqsh: there is no such file",
        ),
        ({"container_mounts": ("/lustre",)}, "expected with a container_image"),
        ({"gpu": "h10"}, "gpu = 'h10': expected one of a100-40, a100, h100"),
        ({"partion": "gpu"}, "partition"),
    ],
)
def test_sites_that_cannot_be_are_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate_recipe(SiteRecipe, fields, "site")


def test_options_that_sbatch_would_misread_are_refused() -> None:
    for options in ({"comment": 'a "b"'}, {"a b": "c"}):
        with pytest.raises(InputError, match="expected"):
            script(site=SiteRecipe(sbatch=options))


def test_the_example_is_a_site() -> None:
    assert load_recipe(SiteRecipe, REPO / "launch" / "site.example.toml").gpu == "h100"
