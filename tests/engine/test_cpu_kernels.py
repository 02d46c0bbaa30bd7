import pytest
import torch
import torch.nn.functional as F

from spiritlm.engine.cpu_kernels import RMSNormFunction, RotationFunction


def gradients(output: torch.Tensor, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (output, *torch.autograd.grad(output, inputs, torch.linspace(-1, 1, output.numel()).view_as(output)))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.06)])
def test_rms_norm_is_torchs(dtype: torch.dtype, tolerance: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 3, 32, generator=generator).to(dtype).requires_grad_()
    weight = torch.rand(32, generator=generator).to(dtype).requires_grad_()
    ours = gradients(RMSNormFunction.apply(x, weight, 1e-5), x, weight)
    for own, reference in zip(ours, gradients(F.rms_norm(x, (32,), weight, 1e-5), x, weight), strict=True):
        assert own.dtype == dtype
        torch.testing.assert_close(own, reference, rtol=0.02 if dtype == torch.bfloat16 else 1e-5, atol=tolerance)


def test_rotation_turns_pairs_of_channels() -> None:
    x = torch.randn(5, 2, 3, 2 * 8).chunk(2, dim=-1)[0].requires_grad_()
    angles = torch.rand(5, 1, 1, 4) * 6
    turned = torch.view_as_complex(torch.stack(x.chunk(2, dim=-1), dim=-1)) * torch.exp(1j * angles)
    expected = gradients(torch.cat([turned.real, turned.imag], dim=-1), x)
    found = gradients(RotationFunction.apply(x, angles.cos(), angles.sin()), x)
    for own, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(own, reference)
