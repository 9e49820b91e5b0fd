"""A Morse graph finds its training in the store, by parameters or by run id."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from reprod.analysis.morse_graph.picture import Picture, draw_graph, draw_retraction
from reprod.config import at_scale
from reprod.errors import BadInput
from reprod.jobs.launch import execute
from reprod.morse_graph import dynamics
from reprod.morse_graph.config import IrisTraining, MorseGraph
from reprod.run import Run
from reprod.store import Store
from reprod.store.writer import MlflowRun

FAST = {"networks": 10, "epochs": 12}


@pytest.fixture
def store(store_uri, monkeypatch):
    monkeypatch.setattr(MlflowRun, "model", lambda *_, **__: None)  # an export takes longer than all the rest
    execute(at_scale(IrisTraining, "smoke", **FAST, seeds=(0, 1)))
    return Store(store_uri)


def graph(store, **settings):
    config = at_scale(MorseGraph, "smoke", **FAST, subdivisions=8, conley=False, **settings)
    assert execute(config) == 0
    return store.find(config)


def test_the_training_comes_from_the_store(store):
    training = store.find(at_scale(IrisTraining, "smoke", **FAST, seeds=(1,)))
    found = graph(store, seeds=(1,))
    assert found.tags["reprod.upstream"] == f"run {training.id}"
    named = graph(store, training_run=training.id)
    assert (named.array("sigma") == found.array("sigma")).all()
    assert "computed in this run" in graph(store, seeds=(2,)).tags["reprod.upstream"]


def test_a_training_in_memory_and_one_of_the_store_give_one_graph(store):
    config = at_scale(MorseGraph, "smoke", **FAST, subdivisions=8, conley=False, seeds=(1,))
    found, alone = graph(store, seeds=(1,)), Run(config)
    dynamics.morse_graph(config, alone)
    assert "computed in this run" in alone.notes["upstream"]
    for name, array in alone.arrays.items():
        np.testing.assert_array_equal(found.array(name), array.values, err_msg=name)
    for name, table in alone.tables.items():
        pd.testing.assert_frame_equal(found.table(name), table.frame, check_dtype=False)


def test_a_graph_without_nodes_is_kept_and_drawn(store):
    """Images without padding under a surrogate that pushes every cell away: all paths leave the box."""
    config = at_scale(MorseGraph, "smoke", networks=10, epochs=60, subdivisions=8, prior="identity", padding=False)
    assert execute(config) == 0
    picture = Picture(store.find(config))
    assert (picture.m, picture.main, picture.arrows, picture.index, picture.share) == (0, None, [], "", 0.0)
    assert picture.summary() == "0 nodes, attractor 0 cells, tile 0.0 %"
    assert not picture.record.table("networks")["inside"].any()
    fig, axes = plt.subplots(1, 2)
    draw_graph(axes[0], picture)
    draw_retraction(axes[1], picture, deviation=True)
    fig.canvas.draw()
    plt.close(fig)


def test_a_run_that_holds_no_training_is_refused(store):
    for wrong in (graph(store), store.find(at_scale(IrisTraining, "smoke", **FAST, seeds=(0, 1)))):
        config = at_scale(MorseGraph, "smoke", training_run=wrong.id)
        with pytest.raises(BadInput, match="no finished iris_training or mnist_training of one seed"):
            execute(config)
        assert store.find(config) is None
