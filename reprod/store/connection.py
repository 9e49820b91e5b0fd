"""Where the store is, and a client of it. The computation never waits for it: see `outbox`."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the outbox retries, and says so
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ["MLFLOW_TRUNCATE_LONG_VALUES"] = "false"  # an error, not a silent cut

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from reprod.errors import BadInput
from reprod.project import cache_dir as cache_dir


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or MLflow's default `sqlite:///mlflow.db`, with an absolute path in either case."""
    return absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db")


def absolute_uri(uri: str) -> str:
    prefix = "sqlite:///"
    if uri.startswith(prefix) and not uri.startswith(prefix + "/"):
        return f"{prefix}{Path(uri.removeprefix(prefix)).absolute()}"
    if "://" not in uri:
        raise BadInput(f"tracking URI {uri}: expected sqlite:///FILE, http(s)://HOST or postgresql://...")
    return uri


def connect(uri: str | None = None) -> MlflowClient:
    """A client of the store. Raises `BadInput` where it cannot be reached.

    Processes that open a new SQLite store at once would each create its tables and leave it broken for good, so they
    go through a file lock one after the other.
    """
    uri = absolute_uri(uri) if uri else tracking_uri()
    os.environ["MLFLOW_TRACKING_URI"] = uri  # model and artifact code of MLflow reads it
    try:
        with _opening(uri):
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except BadInput:
        raise
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise BadInput(f"cannot reach the store {_without_password(uri)}: {reason}") from error
    return client


@contextlib.contextmanager
def _opening(uri: str) -> Iterator[None]:
    if not uri.startswith("sqlite:///"):
        yield
        return
    path = Path(uri.removeprefix("sqlite:///"))
    if not path.parent.is_dir():
        raise BadInput(f"cannot reach the store {uri}: there is no folder {path.parent}")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a store that may only be read needs no tables
            stack.enter_context(FileLock(path.with_name(path.name + ".lock")))
        yield


def _without_password(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    return f"{head.split('://')[0]}://***@{tail}" if at else uri


def experiment_id(client: MlflowClient, name: str) -> str:
    if (found := client.get_experiment_by_name(name)) is not None:
        if found.lifecycle_stage == "deleted":
            raise BadInput(
                f"the MLflow experiment {name} is deleted: `mlflow experiments restore` it, or choose another"
            )
        return found.experiment_id
    try:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # its page shows runs and models, not chats
        return client.create_experiment(name, artifact_location=_beside_store(client.tracking_uri, name), tags=kind)
    except MlflowException:  # another process was faster
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return found.experiment_id


def _beside_store(uri: str, name: str) -> str | None:
    """Artifacts of a SQLite store lie beside it. (MLflow would put them into the folder that happens to be current.)"""
    if not uri.startswith("sqlite:///"):
        return None
    folder = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return str(Path(uri.removeprefix("sqlite:///")).parent / "mlruns" / folder)


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def say(text: str) -> None:
    print(f"reprod: {text}", file=sys.stderr, flush=True)


warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")
