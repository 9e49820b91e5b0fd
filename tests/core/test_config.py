from __future__ import annotations

import pytest

from reprod.config import at_scale, from_spelled, parameter_table, resolve, spell
from reprod.errors import BadInput
from tests.core.toy import Toy


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"rate": "1e-1"}, {"rate": "0.1"}),
        ({"niter": "6e1"}, {}),
        ({"seeds": "0-4"}, {"seeds": "0,1,2,3,4"}),
        ({"factors": "0.50, 1"}, {}),
        ({"shuffle": "True"}, {"shuffle": "yes"}),
        ({"solver": "dopri5", "step_size": "none"}, {"solver": "dopri5", "step_size": "0.25"}),
        ({"device": "cpu", "data_dir": "somewhere"}, {}),
    ],
)
def test_one_identity_for_all_spellings(values, same):
    assert resolve(Toy, values).digest() == resolve(Toy, same).digest()


@pytest.mark.parametrize("values", [{"rate": "0.2"}, {"seeds": "1"}, {"niter": "61"}, {"shuffle": "false"}])
def test_what_matters_changes_the_identity(values):
    assert resolve(Toy, values).digest() != resolve(Toy, {}).digest()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ratte": "1"}, "toy has no parameter 'ratte'; did you mean rate?"),
        ({"rate": "fast"}, "rate=fast: expected a number"),
        ({"rate": "nan"}, "rate=nan: expected a number"),
        ({"rate": "0"}, "rate=0: must be greater than 0"),
        ({"rate": "11"}, "rate=11: must be at most 10"),
        ({"niter": "1.5"}, "niter=1.5: expected an integer"),
        ({"solver": "dopri"}, "solver=dopri: dopri is not one of euler, dopri5; did you mean dopri5?"),
        ({"factors": "1,-2"}, "factors=1,-2: must be greater than 0"),
        ({"shuffle": "maybe"}, "shuffle=maybe: expected true or false"),
        ({"step_size": "none"}, "solver=euler needs step_size"),
        ({"seeds": "1,1"}, "seeds=1,1: give each seed once, and at least one"),
        ({"seeds": "none"}, "seeds=none: give each seed once, and at least one"),
        ({"scale": "tiny"}, "scale=tiny: tiny is not one of paper, medium, small, smoke"),
        ({"device": "gpu"}, "device=gpu: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_mistakes_are_named_in_one_sentence(values, sentence):
    with pytest.raises(BadInput) as error:
        resolve(Toy, values).prepare()
    assert str(error.value) == sentence


def test_scale_is_a_set_of_defaults_that_can_be_overridden():
    assert resolve(Toy, {"scale": "smoke"}).niter == 10
    assert resolve(Toy, {"scale": "smoke", "niter": "60"}).niter == 60
    assert at_scale(Toy, "smoke") == resolve(Toy, {"scale": "smoke"})
    # the scale is only a name: the same values are the same run
    assert resolve(Toy, {"scale": "small"}).digest() == resolve(Toy, {"niter": "30"}).digest()


def test_spelling_and_command_round_trip():
    config = resolve(Toy, {"scale": "small", "factors": "0.1,1,10", "seeds": "3,4", "step_size": "1e-3"})
    assert from_spelled(Toy, config.spelled()) == config
    assert config.command() == "reprod run toy -P scale=small -P seeds=3,4 -P step_size=0.001 -P factors=0.1,1,10"
    assert config.title() == "step_size=0.001 factors=0.1,1,10 toy (small) seeds=3,4"
    assert config.for_seed(3).title() == "seed=3 step_size=0.001 factors=0.1,1,10 toy (small)"
    assert [spell(v) for v in (None, True, 0.001, 1.0, 1e-7, (), ("a", "b"))] == [
        "none", "true", "0.001", "1", "1e-07", "none", "a,b",
    ]  # fmt: skip


def test_every_parameter_has_help():
    assert all(row["help"] for row in parameter_table(Toy))
