import pytest
import torch
from torch import nn

from quintet.engine.kernels.int8_linear import (
    WEIGHT_STEPS,
    FBGEMMProduct,
    Int8Linear,
    Int8Product,
    OneDNNProduct,
    has_vnni,
    multiplies_int8,
)

pytestmark = pytest.mark.skipif(not multiplies_int8(), reason="this CPU multiplies no 8-bit numbers")
PRODUCTS = [
    pytest.param(FBGEMMProduct, marks=pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines,
                                                         reason="FBGEMM is not there")),
    pytest.param(OneDNNProduct, marks=pytest.mark.skipif(not has_vnni(), reason="this CPU has no VNNI instructions")),
]  # fmt: skip


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_largest_numbers_do_not_overflow(product: type[FBGEMMProduct] | type[OneDNNProduct]) -> None:
    torch.manual_seed(0)
    matrix_OI = torch.randint(-WEIGHT_STEPS, WEIGHT_STEPS + 1, (40, 96), dtype=torch.int8)
    matrix_OI[0], matrix_OI[1] = WEIGHT_STEPS, -WEIGHT_STEPS
    steps_TI = torch.randint(-product.steps, product.steps + 1, (5, 96)).float()
    steps_TI[0], steps_TI[1] = product.steps, -product.steps

    multiply: Int8Product = product(matrix_OI, torch.ones(40))

    assert torch.equal(multiply(steps_TI.clone()).long(), steps_TI.long() @ matrix_OI.long().T)


def test_weights_and_activations_are_rounded_to_steps_of_their_largest() -> None:
    linear = nn.Linear(2, 2)
    linear.weight.data = torch.tensor([[127.0, 63.4], [-1.0, 0.3]])
    linear.bias.data = torch.tensor([0.0, 5.0])
    layer = Int8Linear(linear)
    most = layer._product.steps

    out = layer(torch.tensor([[2.0 * most, 3.2], [0.0, 1.0]]))

    # Weights (127, 63) and (-127, 38) / 127; activations (most, 2) x 2, since 1.6 is rounded, and (0, most) / most.
    row = torch.tensor([127 * most + 63 * 2, (-127 * most + 38 * 2) / 127]) * 2
    expected = torch.stack([row, torch.tensor([63.0, 38 / 127])]) + linear.bias.data
    torch.testing.assert_close(out, expected)


def test_a_token_in_int8_does_not_depend_on_its_company() -> None:
    layer = Int8Linear(nn.Linear(48, 32))
    x = torch.randn(9, 48) * torch.logspace(-2, 2, 9)[:, None]

    with torch.inference_mode():
        alone = torch.cat([layer(x[row : row + 1]) for row in range(9)])
        assert torch.equal(layer(x), alone)


def test_nothing_in_is_nothing_out() -> None:
    assert Int8Linear(nn.Linear(8, 4, bias=False))(torch.zeros(2, 8)).eq(0).all()
