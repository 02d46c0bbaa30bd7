"""A generated sequence as a line to read."""

from __future__ import annotations

from collections.abc import Sequence

from spiritlm.tokens.documents import Segment
from spiritlm.tokens.interleave import SPEECH


def transcript(segments: Sequence[Segment]) -> str:
    """Text as it is, speech as `[12 units of speech]`; `(nothing)` where the model ended at once."""
    parts = [f"[{len(s.units)} units of speech]" if s.modality == SPEECH else s.text for s in segments]
    return " ".join(parts) or "(nothing)"
