"""Optimizers: who trains what, at which rate, and that their state survives being saved."""

import torch

from engine.train.optimizers import learning_rate, muon_and_adamw, pack_optimizers, unpack_optimizers


def test_muon_trains_the_matrices_of_blocks_and_adamw_the_rest_in_the_order_of_their_names() -> None:
    names = ("enter.weight", "blocks.0.qkv.weight", "blocks.0.qkv.bias", "blocks.1.down.weight")
    own = {name: torch.nn.Parameter(torch.zeros(2, 2)) for name in names}
    factors = {name: torch.nn.Parameter(torch.zeros(2, 2)) for name in ("blocks.0.qkv.weight.a", "registers")}
    muon, adamw = muon_and_adamw({"generator": own, "memory": factors}, 0.1)
    assert isinstance(muon, torch.optim.Muon) and isinstance(adamw, torch.optim.AdamW)
    found = [[id(p) for group in optimizer.param_groups for p in group["params"]] for optimizer in (muon, adamw)]
    assert found[0] == [id(own[name]) for name in names if name.endswith(("qkv.weight", "down.weight"))]
    rest = [own["enter.weight"], own["blocks.0.qkv.bias"], *factors.values()]
    assert found[1] == [id(p) for p in rest]
    assert [type(o) for o in muon_and_adamw({"memory": factors}, 0.1)] == [torch.optim.AdamW]


def test_learning_rate_warms_up_stays_and_cools_down() -> None:
    assert learning_rate(0, 1.0, 10, None) == 0.1
    assert learning_rate(500, 1.0, 10, None) == 1.0
    assert learning_rate(500, 1.0, 10, (450, 100)) == 0.5
    assert learning_rate(550, 1.0, 10, (450, 100)) == 0.0


def test_optimizer_state_survives_packing() -> None:
    def make() -> tuple[torch.nn.Linear, list[torch.optim.Optimizer]]:
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)
        return model, [torch.optim.Muon([model.weight], lr=0.1), torch.optim.AdamW([model.bias], lr=0.1)]

    def step(model: torch.nn.Linear, optimizers: list[torch.optim.Optimizer]) -> None:
        model(torch.ones(2, 4)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    first, optimizers = make()
    step(first, optimizers)
    second, others = make()
    second.load_state_dict(first.state_dict())
    unpack_optimizers(others, pack_optimizers(optimizers))
    step(first, optimizers)
    step(second, others)
    assert torch.equal(first.weight, second.weight) and torch.equal(first.bias, second.bias)
