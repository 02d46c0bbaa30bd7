"""Repairs of megatron-core 0.16.1's DistributedOptimizer.

Most are of its work with `torch.optim.AdamW`, which is used where neither Transformer Engine nor apex is installed, on
a GPU as on a CPU. Without them a checkpoint cannot be loaded, loads and then counts Adam's steps wrongly without a
word, or holds main weights and moments that belong elsewhere.
"""

from __future__ import annotations

from typing import Any

import torch


def install_optimizer_fixes() -> None:
    """Repair the class in place, once."""
    from megatron.core.optimizer import distrib_optimizer

    cls = distrib_optimizer.DistributedOptimizer
    if getattr(cls, "repaired", False):
        return
    cls.repaired = True
    _leave_padding_out_of_positions(cls)
    if distrib_optimizer.HAVE_APEX_OR_TE:
        return
    _let_state_exist_before_the_first_step(cls)
    _give_each_parameter_its_own_step(cls)
    _leave_the_step_to_the_parameter_groups(cls)


def _leave_padding_out_of_positions(cls: Any) -> None:
    """A save gathers the buckets of a buffer without the padding between them, and then cuts the parameters out at
    positions that count the padding: all but the first bucket's come out shifted."""
    original = cls.sharded_param_state_fully_reshardable

    def sharded_param_state(self: Any, *arguments: Any, **options: Any) -> Any:
        counted = [buffer.param_index_map for buffer in self.buffers]
        for buffer in self.buffers:
            buffer.param_index_map = _positions_without_padding(buffer)
        try:
            return original(self, *arguments, **options)
        finally:
            for buffer, positions in zip(self.buffers, counted, strict=True):
                buffer.param_index_map = positions

    cls.sharded_param_state_fully_reshardable = sharded_param_state


def _positions_without_padding(buffer: Any) -> dict[torch.nn.Parameter, tuple[int, int, int]]:
    """First and last position and bucket of each parameter, with the buckets end to end."""
    shifts, end = [], 0
    for bucket in buffer.buckets:
        shifts.append(end - bucket.offset)
        end += bucket.numel_unpadded
    return {
        parameter: (first + shifts[bucket], last + shifts[bucket], bucket)
        for parameter, (first, last, bucket) in buffer.param_index_map.items()
    }


def _let_state_exist_before_the_first_step(cls: Any) -> None:
    """`state_dict` asserts that all parameters share one step; before the first step of a run they have none."""
    original = cls.state_dict

    def state_dict(self: Any) -> dict[str, Any]:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                if not self.optimizer.state[parameter]:
                    self.optimizer.state[parameter] = {
                        "step": torch.zeros((), device=parameter.device),
                        "exp_avg": torch.zeros_like(parameter),
                        "exp_avg_sq": torch.zeros_like(parameter),
                    }
        return original(self)

    cls.state_dict = state_dict


def _give_each_parameter_its_own_step(cls: Any) -> None:
    """`load_state_dict` gives all parameters one tensor, which `step += 1` then raises once a parameter."""
    original = cls.load_state_dict

    def load_state_dict(self: Any, state_dict: dict[str, Any]) -> None:
        original(self, state_dict)
        for state in self.optimizer.state.values():
            state["step"] = state["step"].clone()

    cls.load_state_dict = load_state_dict


def _leave_the_step_to_the_parameter_groups(cls: Any) -> None:
    """Reading and writing one parameter's state ask for a tensor `step` that no checkpoint holds (KeyError), and
    write into leaves that require a gradient."""
    original = cls._get_main_param_and_optimizer_states

    def get_states(self: Any, model_param: torch.Tensor) -> dict[str, torch.Tensor]:
        tensors = dict(original(self, model_param))
        tensors.pop("step", None)
        return tensors

    @torch.no_grad()
    def set_states(self: Any, model_param: torch.Tensor, tensors: dict[str, torch.Tensor]) -> None:
        own = get_states(self, model_param)
        for name, tensor in own.items():
            tensor.copy_(tensors[name])

    cls._get_main_param_and_optimizer_states = get_states
    cls._set_main_param_and_optimizer_states = set_states
