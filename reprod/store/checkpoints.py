"""Checkpoints of a run: whole or not there, checked by sha256, the newest good one counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reprod.errors import BadInput
from reprod.store.connection import first_line, say
from reprod.store.files import sha256, write_whole

if TYPE_CHECKING:
    from reprod.store.writer import MlflowRun

CHECKPOINTS_KEPT = 2


def save(run: MlflowRun, iteration: int, state: Mapping[str, Any]) -> None:
    """Keep `state` as the checkpoint of `iteration`: written beside, flushed, then renamed, so that it is whole or
    not there; its checksum goes into a manifest that is written, and uploaded, last."""
    import torch

    name = f"iteration-{iteration:09d}"
    folder = run.work / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    path, manifest = folder / f"{name}.pt", folder / f"{name}.json"
    write_whole(path, lambda file: torch.save({"state": state, "unsent": run.outbox.unsent_metrics()}, file))
    described = {"iteration": iteration, "sha256": sha256(path), "digest": run.config.digest()}
    write_whole(manifest, lambda file: file.write(json.dumps(described).encode()))
    run.send("artifact", path=str(path), to="checkpoints")
    run.send("artifact", path=str(manifest), to="checkpoints")
    for old in sorted(folder.glob("*.json"))[:-CHECKPOINTS_KEPT]:
        for stale in (old, old.with_suffix(".pt")):
            if not run.outbox.forget(stale):
                run.send("delete", path=f"checkpoints/{stale.name}")
            stale.unlink(missing_ok=True)


def restore(run: MlflowRun) -> tuple[int, dict[str, Any]] | None:
    """The newest checkpoint that is whole, from the work folder or the store. A damaged one is named and passed
    over; if every one is damaged, that is an error and not a silent fresh start."""
    import torch

    folder = run.work / "checkpoints"
    for temporary in folder.glob("*.tmp"):
        temporary.unlink()
    stored = {Path(f.path).name for f in run.client.list_artifacts(run.run_id, "checkpoints")}
    names = {path.stem for path in folder.glob("*.json")} | {Path(n).stem for n in stored if n.endswith(".json")}
    for name in sorted(names, reverse=True):
        try:
            path, manifest = (_fetch(run, f"{name}.{ending}") for ending in ("pt", "json"))
            described = json.loads(manifest.read_text())
            if sha256(path) != described["sha256"]:
                raise ValueError("its checksum differs")
            if described["digest"] != run.config.digest():
                raise BadInput(f"checkpoint {name} of run {run.run_id} belongs to another configuration")
            content = torch.load(path, map_location="cpu", weights_only=True)
        except BadInput:
            raise
        except Exception as error:
            say(f"checkpoint {name} of run {run.run_id} cannot be used ({first_line(error)})")
            continue
        for message in content["unsent"]:
            run.outbox.put(message)
            run.remember(message)
        say(f"continuing run {run.run_id} behind iteration {described['iteration']}")
        return described["iteration"], content["state"]
    if names:
        raise BadInput(f"run {run.run_id} has no checkpoint that can be read; start it anew: {run.config.command()}")
    return None


def _fetch(run: MlflowRun, name: str) -> Path:
    local, fetched = run.work / "checkpoints" / name, run.work / "fetched"
    if local.exists():
        return local
    fetched.mkdir(parents=True, exist_ok=True)
    return Path(run.client.download_artifacts(run.run_id, f"checkpoints/{name}", str(fetched)))
