"""Trained models in two forms.

*Weights*: `state_dict` and `spec.json` (class, arguments, versions, sha256) under the run's artifacts. Loading rebuilds
the class from this package and reads tensors only (`weights_only=True`): exact, safe and independent of the device.

*MLflow*: a LoggedModel with signature, input example and pinned requirements, for `mlflow.pytorch.load_model`,
`mlflow.pyfunc` and `mlflow models serve`; in the exported format (`pt2`, no pickle) where the model exports, otherwise
pickled, with a tag `reprod.format` that says so.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from reprod import papers
from reprod.errors import BadInput


def save_weights(module: torch.nn.Module, arguments: Mapping[str, Any], folder: Path) -> None:
    """Write `state.pt` and `spec.json` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({name: tensor.detach().cpu() for name, tensor in module.state_dict().items()}, folder / "state.pt")
    kind = type(module)
    spec = {
        "class": f"{kind.__module__}:{kind.__qualname__}",
        "arguments": dict(arguments),
        "parameters": sum(p.numel() for p in module.parameters()),
        "versions": {"torch": torch.__version__},
        "sha256": hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest(),
    }
    (folder / "spec.json").write_text(json.dumps(spec, indent=1))


def load_weights(folder: Path) -> torch.nn.Module:
    """The model that `save_weights` wrote. Raises `BadInput` for a changed file or a class not of ours."""
    try:
        spec = json.loads((folder / "spec.json").read_text())
    except ValueError as error:
        raise BadInput(f"{folder.name}/spec.json is damaged ({error})") from None
    if hashlib.sha256((folder / "state.pt").read_bytes()).hexdigest() != spec["sha256"]:
        raise BadInput(f"{folder.name}/state.pt is damaged: its sha256 is not the one in spec.json")
    module_name, _, name = spec["class"].partition(":")
    if module_name.partition(".")[0] not in papers.packages():
        raise BadInput(
            f"spec.json names the class {spec['class']}; only classes of reprod and of its papers are loaded"
        )
    kind = getattr(importlib.import_module(module_name), name, None)
    if not (isinstance(kind, type) and issubclass(kind, torch.nn.Module)):
        raise BadInput(f"this version of reprod has no model {spec['class']}")
    model = kind(**spec["arguments"])
    try:
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise BadInput(f"{folder.name}/state.pt holds more than weights: it is not loaded") from None
    model.load_state_dict(state)
    return model.eval()


def save_mlflow(module: torch.nn.Module, example: torch.Tensor, folder: Path, export: bool = True) -> dict[str, str]:
    """Write an MLflow model into `folder` (which must not exist); return tags that name its format.

    Exported where `export` and `module.exportable` are true and the export succeeds, otherwise pickled.
    """
    from mlflow.models import infer_signature
    from mlflow.pytorch import save_model

    folder.parent.mkdir(parents=True, exist_ok=True)
    module = module.to("cpu").eval()
    example = example.detach().cpu()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # for a handful of examples; on a busy machine several would wait for each other
    try:
        with torch.no_grad():
            signature = infer_signature(example.numpy(), module(example).numpy())
    finally:
        torch.set_num_threads(threads)
    common = {"signature": signature, "pip_requirements": _requirements()}
    logging.getLogger("mlflow").setLevel(logging.ERROR)  # it warns about pickle, which the tag states
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not export:
            reason = "pickle (not exported at smoke scale)"
        elif getattr(module, "exportable", False):
            try:
                save_model(module, str(folder), input_example=example.numpy(), serialization_format="pt2", **common)
                return {"reprod.format": "pt2"}
            except Exception as error:
                reason = f"pickle (export failed: {type(error).__name__})"
                _remove(folder)
        else:
            reason = "pickle (this model does not export)"
        save_model(module, str(folder), input_example=example.numpy(), serialization_format="pickle", **common)
    return {"reprod.format": reason}


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _requirements() -> list[str]:
    from importlib.metadata import version

    return [f"{name}=={version(name)}" for name in ("torch", "torchdiffeq", "numpy", "reprod")]
