"""The examples do what they say."""

import numpy as np
import pytest

from examples import plan
from tests.support.environments import make_vec


def test_a_plan_leads_to_the_picture_it_was_made_for(capsys, tmp_path) -> None:
    out = tmp_path / "way.png"
    options = ["--seed", "0", "--threads", "1", "--memory", "window", "--ways", "8", "--steps", "24"]
    assert plan.main([*options, "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[0].split()[3]) > plan.NEAR and lines[-1] == "reached" and out.stat().st_size > 500


def test_planning_leaves_the_worlds_where_they_were() -> None:
    env = make_vec(4, actions=["none", "forward", "turn_left", "turn_right"], memory="window").unwrapped
    frame = env.reset(seed=[1] * 4)[0]
    way, near = plan.plan(env, frame[0], np.random.default_rng(0), 3)
    assert 1 <= len(way) <= 3 and near > 0
    once = plan.walk(env, [1, 2])
    env.reset(seed=[1] * 4)
    assert np.array_equal(plan.walk(env, [1, 2]), once)


@pytest.mark.parametrize("options", [["--ways", "0"], ["--length", "-1"], ["--nonsense"]])
def test_options_that_make_no_sense_end_the_example(options: list[str]) -> None:
    with pytest.raises(SystemExit):
        plan.main(options)
