"""The device megatron-core runs on: CUDA where there is one, else the CPU.

megatron-core 0.16.1 takes CUDA for granted in many places. On a machine without it, `install_backend` gives every
imported `megatron.core` module a stand-in for its global `torch` that sends factory calls with a CUDA device to the
CPU and answers `torch.cuda` questions for it. torch itself stays as it is but for two methods of `Tensor`.
Where CUDA exists nothing is touched. The alternative, a fork of megatron-core, would have to be kept up with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import logging
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch

from spiritlm.engine.cpu_kernels import install_rotation

_CPU = torch.device("cpu")
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h
_FACTORIES = (
    "zeros", "ones", "empty", "full", "tensor", "arange", "rand", "randn", "randint", "eye", "as_tensor",
    "empty_like", "zeros_like", "ones_like", "full_like",
)  # fmt: skip
_MODULES = (
    "parallel_state", "tensor_parallel.random", "pipeline_parallel.schedules", "distributed", "optimizer",
    "models.gpt.gpt_model", "models.gpt.gpt_layer_specs", "timers", "dist_checkpointing.serialization",
    "dist_checkpointing.strategies.torch", "dist_checkpointing.strategies.filesystem_async",
    "dist_checkpointing.strategies.fully_parallel", "dist_checkpointing.strategies.state_dict_saver",
    "dist_checkpointing.strategies.async_utils",
)  # fmt: skip


def device() -> torch.device:
    """Where this process computes."""
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else _CPU


def install_backend() -> None:
    """Make megatron-core usable on this machine; may be called again. Denormals are flushed to zero on the CPU.

    Its warnings are silenced: nearly all say that Transformer Engine or apex is not installed, or that it calls
    torch by an old name.
    """
    warnings.filterwarnings("ignore", module=r"megatron\.core")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    logging.getLogger("megatron.core.dist_checkpointing").setLevel(logging.CRITICAL)  # what fails is raised as well
    with contextlib.nullcontext() if torch.cuda.is_available() else _nothing_compiled():
        for name in _MODULES:
            importlib.import_module(f"megatron.core.{name}")
    if torch.cuda.is_available():
        return
    if not getattr(torch.Tensor.type, "for_megatron", False):
        torch.set_flush_denormal(True)
        _keep_freed_memory()
        _redirect_rng_state()
        _redirect_tensor_methods()
        install_rotation()
    for name, module in list(sys.modules.items()):
        if name.startswith("megatron.core") and getattr(module, "torch", None) is torch:
            module.torch = _TORCH  # type: ignore[attr-defined]


@contextlib.contextmanager
def _nothing_compiled() -> Iterator[None]:
    """Inside, `torch.compile` gives functions back as they are. megatron-core calls it for kernels that are not used
    here, and the first call imports inductor, which takes as long as all else that a run needs to start."""

    def as_it_is(function: Any = None, **options: Any) -> Any:
        return function if function is not None else as_it_is

    original = torch.compile
    torch.compile = as_it_is  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.compile = original


def _keep_freed_memory() -> None:
    """Let glibc keep what large tensors free. It gives it back to the system by default, and then a tenth of every
    training step goes into new pages. Where the C library is another one, nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def _redirect_rng_state() -> None:
    from megatron.core.tensor_parallel import random

    random._get_cuda_rng_state = lambda device="cuda", clone=False, graph_safe=False: torch.get_rng_state()
    random._set_cuda_rng_state = lambda state, device=-1, graph_safe=False: torch.set_rng_state(state)


def _redirect_tensor_methods() -> None:
    """`Tensor.cuda` stays where it is; `Tensor.type` answers megatron-core, and nobody else, with the CUDA name."""
    original = torch.Tensor.type

    def type_name(self: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        answer = original(self, *args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if isinstance(answer, str) and caller.startswith("megatron.core"):
            return answer.replace("torch.", "torch.cuda.", 1)
        return answer

    type_name.for_megatron = True  # type: ignore[attr-defined]
    torch.Tensor.type = type_name  # type: ignore[method-assign, assignment]
    torch.Tensor.cuda = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    @functools.wraps(factory)
    def redirected(*args: Any, **kwargs: Any) -> torch.Tensor:
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = _CPU
        kwargs.pop("pin_memory", None)
        return factory(*args, **kwargs)

    return redirected


class _Stream:
    """A CUDA stream or event where everything is done at once."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args, **kwargs: None

    def query(self) -> bool:
        return True


class _CudaOnCpu:
    """Answers to `torch.cuda.*` on a machine without CUDA."""

    random = types.SimpleNamespace(get_rng_state=lambda device=None: torch.get_rng_state())
    Stream = Event = _Stream

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cuda, name)

    def is_available(self) -> bool:
        return False

    def current_device(self) -> torch.device:
        return _CPU

    def device_count(self) -> int:
        return 1

    def current_stream(self, *args: Any) -> _Stream:
        return _Stream()

    default_stream = current_stream

    def stream(self, stream: Any) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def is_current_stream_capturing(self) -> bool:
        return False

    def memory_allocated(self, *args: Any) -> int:
        return 0

    max_memory_allocated = memory_allocated

    def synchronize(self, *args: Any, **kwargs: Any) -> None:
        pass

    set_device = empty_cache = synchronize


class _TorchOnCpu(types.ModuleType):
    """Everything of torch, with `cuda` and the factories replaced."""

    def __init__(self) -> None:
        super().__init__("torch")
        self.cuda = _CudaOnCpu()
        for name in _FACTORIES:
            setattr(self, name, _on_cpu(getattr(torch, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


_TORCH = _TorchOnCpu()
