"""What a case is checked with: functions by kind of case, and the report that they fill.

A check reads the case's folder and calls the report for everything that the folder says; it raises where it cannot.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spiritlm.errors import InputError

PUBLISHED = [
    "glm_vq_whisper",
    "glm_vq_whisper_train_ema",
    "glm_vq_whisper_train_restart",
    "glm_vq_whisper_train_grad",
    "glm_vq_whisper_full",
    "glm_chat_template",
    "glm_mel_frontend",
    "glm_silence_splitter",
    "spirit_tokens",
    "spirit_prompt",
    "spirit_hubert25",
    "spirit_hubert25_prenorm",
    "spirit_f0_vqvae",
    "spirit_f0_vqvae_train",
    "spirit_style_w2v2",
    "spirit_hifigan_base",
    "spirit_hifigan_expressive",
    "cosy_flow_glm",
    "cosy_flow_glm_train",
    "cosy_flow_glm_stream",
    "cosy_flow_v1",
    "cosy_flow_v2",
    "cosy_flow_v2_train",
    "cosy_hift_22k",
    "cosy_hift_24k",
    "cosy_mel_frontend",
    "swuggy_sblimp",
    "slamkit_interleave",
    "stsp",
]
"""All kinds that there are golden data of, known to the project or not, so that one is never taken for another."""


class Report:
    """What was compared in one case, and how far it is off."""

    def __init__(self) -> None:
        self.compared = self.wrong = 0
        self.first_wrong = ""
        self.largest = 0.0
        """Largest error as a share of its tolerance."""
        self.largest_line = ""

    def equal(self, what: str, found: Any, expected: Any) -> None:
        """Exactly equal."""
        self._count(what, found == expected, f"found {_short(found)}, expected {_short(expected)}")

    def near(self, what: str, found: Any, expected: Any, tolerance: float) -> None:
        """Arrays of one shape, no element further off than `tolerance`; non-finite elements are wrong."""
        found, expected = np.asarray(found, dtype=np.float64), np.asarray(expected, dtype=np.float64)
        if found.shape != expected.shape:
            self._count(what, False, f"found shape {found.shape}, expected {expected.shape}")
            return
        error = float(np.max(np.abs(found - expected), initial=0.0))
        self.below(what, error, tolerance, "error")

    def below(self, what: str, value: float, limit: float, name: str) -> None:
        """`value` (called `name`, for example a z-score) is at most `limit`."""
        share = value / limit
        if not self.largest_line or not share <= self.largest:
            self.largest = share
            self.largest_line = f"largest {name} {value:.3g} of {limit:.3g} ({what})"
        self._count(what, share <= 1, f"{name} {value:.3g} is above {limit:.3g}")

    def refused(self, what: str, function: Callable[[], Any]) -> None:
        """The golden data have an exception here, of whatever class: `function` raises `InputError`."""
        try:
            found = function()
        except InputError:
            self._count(what, True, "")
        else:
            self._count(what, False, f"found {_short(found)}, expected an InputError")

    def _count(self, what: str, right: bool, problem: str) -> None:
        self.compared += 1
        if not right:
            self.wrong += 1
            self.first_wrong = self.first_wrong or f"{what}: {problem}"

    @property
    def passed(self) -> bool:
        return self.compared > 0 and self.wrong == 0

    def line(self) -> str:
        parts = [f"{self.wrong} of {self.compared} differ"] if self.compared else ["nothing was compared"]
        return "; ".join(
            [*parts, *filter(None, (self.largest_line, self.first_wrong and f"first: {self.first_wrong}"))]
        )


@dataclass(frozen=True)
class Case:
    """A folder of golden data."""

    folder: Path
    report: Report

    def read(self, name: str) -> Any:
        """A JSON file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))

    def sibling(self, key: str) -> Path:
        """The folder beside this one that field `key` of `config.json` names first."""
        named = self.folder.parent / self.read("config.json")[key].split()[0]
        suffixed = named.with_name(named.name + self.folder.name.partition("-")[1] + self.folder.name.partition("-")[2])
        return suffixed if suffixed.is_dir() else named


Check = Callable[[Case], None]
CHECKS: dict[str, Check] = {}


def kind(name: str) -> Callable[[Check], Check]:
    """Registers a check for the folders called `name` or `name` with something behind it."""

    def register(check: Check) -> Check:
        CHECKS[name] = check
        return check

    return register


def check_for(folder: str) -> Check | None:
    """The check of the longest kind that the folder's name begins with; None where the project does not know it."""
    kinds = [name for name in {*PUBLISHED, *CHECKS} if folder.startswith(name)]
    return CHECKS.get(max(kinds, key=len, default=""))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:60]}...{text[-57:]}"
