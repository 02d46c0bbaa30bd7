import warnings

import pytest
import torch

from spiritlm.run.device import computes_bf16, training_device, warn_of_emulated_bf16


def test_a_device_without_bf16_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not computes_bf16(cpu)
    with pytest.warns(UserWarning, match=r"training\.precision=fp32"):
        warn_of_emulated_bf16(cpu)
    assert computes_bf16(torch.device("cuda"))
    with warnings.catch_warnings(action="error"):
        warn_of_emulated_bf16(torch.device("cuda"))


def test_each_process_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert training_device() == torch.device("cuda", 3)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert training_device() == torch.device("cpu")
