from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.model.generator import Generator, GeneratorConfig, alone
from engine.model.sights import CHANGED, OLDEST, Layout, age_feature, apart, sights_of, view_changed
from tests.support.models import shaken

CONFIG = GeneratorConfig(
    rows=4, columns=3, channels=5, actions=2, dim=32, depth=2, heads=2, window=0, sink=0, clip=1, far=2,
    sights=True, still_rows=1, player=4,
)  # fmt: skip


def draw(generator: Generator, sights: torch.Tensor | None, action: int = 0) -> torch.Tensor:
    latents = torch.randn(1, 1, 12, 5, generator=torch.Generator().manual_seed(0))
    acted = torch.zeros(1, 1, 2)
    acted[..., action] = 1
    rotation = generator.rotation(torch.zeros(1, 1, 3))
    return generator(latents, torch.ones(1, 1), acted, rotation, alone(12), sights=sights)


def test_the_layout_tells_tiles_of_the_world_from_what_stands_still() -> None:
    layout = Layout.of(CONFIG)
    assert layout.moving.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert layout.still.tolist() == [4, 9, 10, 11]
    assert list(zip(layout.east, layout.north, strict=True))[:3] == [(-1, 1), (0, 1), (1, 1)]
    assert (layout.east[-1], layout.north[-1]) == (1, -1)


def test_a_new_generator_draws_what_was_seen() -> None:
    sights = sights_of(torch.randn(1, 1, 12, 5), torch.ones(1, 1, 12))
    assert torch.equal(draw(Generator(CONFIG), sights), sights[..., :5])


def test_sights_ages_and_the_mask_each_change_what_is_drawn() -> None:
    generator = shaken(Generator(CONFIG), 0)
    latents, age = torch.randn(1, 1, 12, 5), torch.full((1, 1, 12), 3)
    drawn = draw(generator, sights_of(latents, age))
    gone = age.clone()
    gone[..., 2] = 0
    for other in (sights_of(latents, age + 1), sights_of(latents, gone), sights_of(latents + 1, age)):
        assert not torch.allclose(draw(generator, other)[..., 5:, :], drawn[..., 5:, :])


def test_frames_that_are_drawn_side_by_side_see_nothing_of_each_other() -> None:
    generator = shaken(Generator(CONFIG), 0)
    latents, sights = torch.randn(2, 3, 12, 5), sights_of(torch.randn(2, 3, 12, 5), torch.ones(2, 3, 12))
    rotation, level, acted = generator.rotation(torch.zeros(2, 3, 3)), torch.rand(2, 3), torch.rand(2, 3, 2)
    whole = generator(latents, level, acted, rotation, alone(12), sights=sights)
    one = generator.rotation(torch.zeros(2, 1, 3))
    for i in range(3):
        at = slice(i, i + 1)
        drawn = generator(latents[:, at], level[:, at], acted[:, at], one, alone(12), sights=sights[:, at])
        assert torch.allclose(whole[:, at], drawn, atol=1e-5)


def test_no_sights_are_sights_of_nothing() -> None:
    generator = shaken(Generator(CONFIG), 0)
    nothing = sights_of(torch.randn(1, 1, 12, 5), torch.zeros(1, 1, 12))
    assert not nothing.any()
    assert torch.equal(draw(generator, nothing), draw(generator, None))


def test_weights_from_before_sights_serve_with_zero_columns() -> None:
    old = shaken(Generator(replace(CONFIG, sights=False, window=1)), 0)
    new = Generator(CONFIG)
    weights = old.state_dict()
    weights["enter.weight"] = torch.cat((weights["enter.weight"], torch.zeros(32, 7)), 1)
    new.load_state_dict(weights)
    assert torch.allclose(draw(new, None), draw(old, None), atol=1e-6)


def test_ages_grow_no_further_than_training_saw() -> None:
    ages = age_feature(torch.tensor([1, 10, OLDEST, 10 * OLDEST]))
    assert 0 < ages[0] < ages[1] < ages[2] == ages[3]


def test_a_view_has_changed_where_most_of_it_has() -> None:
    known = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    some, most = known.copy(), known.copy()
    some[:6] += 2 * CHANGED
    most[:7] += 2 * CHANGED
    assert apart(some, known)[:6] == pytest.approx(2 * CHANGED)
    assert not view_changed(some, known)
    assert view_changed(most, known)
    assert not view_changed(most[:7], known[:7]), "seven tiles are too few to tell"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window": -1}, "window must be at least"),
        ({"sights": False}, "window must be at least"),
        ({"player": -1}, "the token that shows the player"),
        ({"player": 9}, "no frame has"),
        ({"still_rows": 4}, "no frame has"),
        ({"sink": -1}, "window"),
    ],
)
def test_what_is_no_layout_is_refused(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(CONFIG, **changes)  # type: ignore[arg-type]
