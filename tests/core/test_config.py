from __future__ import annotations

import pytest

from reprod import cli, store
from reprod.config import at_scale, from_spelled, from_yaml, parameter_table, resolve, spell, to_yaml
from reprod.errors import BadInput, nearest
from reprod.jobs import launch, pool
from reprod.jobs import sweep as sweep_
from reprod.store import provenance
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


# -- what is said ---------------------------------------------------------------------------------------------------


def test_a_given_parameter_without_effect_is_said(toy, capsys):
    assert launch.guarded(lambda: launch._run("toy", {"solver": "dopri5", "step_size": "0.5"}, typed=True)) == 0
    assert "reprod: step_size has no effect with the other parameters of this toy" in capsys.readouterr().err
    words = ["--solver", "dopri5", "--step_size", "0.5"]  # mlflow run passes the defaults, too
    assert launch.entry_point("toy")(words) == 0
    assert "no effect" not in capsys.readouterr().err
    assert launch.entry_point("toy")([*words[:3], "0.25"]) == 0
    assert "step_size has no effect" in capsys.readouterr().err
    assert launch.guarded(lambda: launch._run("toy", {"step_size": "0.25"}, typed=True)) == 0
    assert "no effect" not in capsys.readouterr().err


def test_a_sweep_over_a_parameter_without_effect_says_so(toy, capsys):
    values = {"solver": "dopri5", "step_size": "0.5,0.25"}
    assert sweep_.sweep("toy", values, pool.Options(), dry_run=True) == 0
    said = capsys.readouterr()
    assert "step_size has no effect with the other parameters of this toy" in said.err
    assert said.out.startswith("1 configurations"), "they are one and the same"
    assert sweep_.sweep("toy", {"solver": "euler,dopri5", "step_size": "0.5,0.25"}, pool.Options(), dry_run=True) == 0
    assert "no effect" not in capsys.readouterr().err


@pytest.mark.parametrize(("word", "words", "meant"), [
    ("tolerance", ["solver", "tol", "scale"], "tol"),
    ("step", ["solver", "step_size"], "step_size"),
    ("learning_rates", ["lr", "learning_rate"], "learning_rate"),
    ("nitre", ["niter", "seeds"], "niter"),
    ("colour", ["solver", "tol"], ""),
])  # fmt: skip
def test_the_nearest_name_is_the_one_that_was_meant(word, words, meant):
    assert nearest(word, words) == (f"; did you mean {meant}?" if meant else "")


def test_several_values_name_the_command_that_takes_them():
    with pytest.raises(BadInput) as error:
        resolve(Toy, {"step_size": "0.5,0.25"})
    assert "`reprod sweep toy -P step_size=0.5,0.25`" in str(error.value)
    with pytest.raises(BadInput) as error:
        resolve(Toy, {"step_size": "0.5,x"})
    assert "sweep" not in str(error.value)


def test_every_run_of_one_seed_names_it():
    assert resolve(Toy, {}).title() == "seed=0 toy (paper)"
    assert [resolve(Toy, {"seeds": "0-1"}).for_seed(s).title() for s in (0, 1)] == [
        "seed=0 toy (paper)", "seed=1 toy (paper)",
    ]  # fmt: skip


def test_the_description_of_a_run_names_figures_of_its_scale():
    assert "`reprod figures --experiment toy --scale smoke`" in provenance._note(resolve(Toy, {"scale": "smoke"}))


# -- parameters in a file -------------------------------------------------------------------------------------------


def test_the_parameters_of_a_run_are_a_file_that_makes_it_again(toy, tmp_path, capsys):
    config = resolve(Toy, {"scale": "small", "factors": "0.1,1", "seeds": "3,4", "step_size": "1e-3", "rate": "1e-5"})
    path = tmp_path / "c.yaml"
    path.write_text(to_yaml(config))
    assert resolve(Toy, from_yaml(path, "toy")) == config
    path.write_text("experiment: toy\nrate: 1e-1\nsolver: dopri5\nfactors: [1, 2.5]\nstep_size: null\nshuffle: no\n")
    given = cli.given("toy", path, {"rate": "0.2"})
    assert resolve(Toy, given) == Toy(rate=0.2, solver="dopri5", factors=(1.0, 2.5), step_size=None, shuffle=False)
    assert launch.guarded(lambda: cli.app(["run", "toy", "--config", str(path), "--note", "for my thesis"],
                                          standalone_mode=False) or 0) == 0  # fmt: skip
    (record,) = store.Store().search("toy")
    assert record.config.rate == 0.1 and record.tags["reprod.note"] == "for my thesis"
    assert record.tags["mlflow.note.content"].startswith("for my thesis\n\n")
    capsys.readouterr()
    assert launch.guarded(lambda: cli.app(["config", record.id], standalone_mode=False) or 0) == 0
    assert capsys.readouterr().out == to_yaml(record.config)


@pytest.mark.parametrize(("text", "sentence"), [
    ("experiment: other\n", "those are parameters of other, not of toy"),
    ("- 1\n", "expected one `name: value`"),
    ("rate: {a: 1}\n", "rate holds names of its own"),
    ("rate: [1\n", "cannot be read"),
    (None, "cannot be read"),
])  # fmt: skip
def test_a_bad_file_is_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "c.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(BadInput, match=sentence):
        from_yaml(path, "toy")
