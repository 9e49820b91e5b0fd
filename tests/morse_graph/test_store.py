"""A Morse graph finds its training in the store, by parameters or by run id."""

import pytest

from reprod.config import at_scale
from reprod.errors import BadInput
from reprod.jobs.launch import execute
from reprod.morse_graph.config import IrisTraining, MorseGraph
from reprod.store import Store
from reprod.store.writer import MlflowRun

FAST = {"nets": 10, "epochs": 12}


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
    assert found.tags["reprod.training"] == f"run {training.id}"
    named = graph(store, training_run=training.id)
    assert (named.array("sigma") == found.array("sigma")).all()
    assert "trained in this run" in graph(store, seeds=(2,)).tags["reprod.training"]


def test_a_run_that_holds_no_training_is_refused(store):
    found = graph(store)
    with pytest.raises(BadInput, match="no finished iris_training"):
        at_scale(MorseGraph, "smoke", training_run=found.id).prepare()
    parent = store.find(at_scale(IrisTraining, "smoke", **FAST, seeds=(0, 1)))
    with pytest.raises(BadInput, match="several seeds"):
        at_scale(MorseGraph, "smoke", training_run=parent.id).prepare()
