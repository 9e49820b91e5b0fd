"""Where the store is, and a client of it. The computation never waits for it: see `outbox`."""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.parse
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # the outbox retries, and says so
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ["MLFLOW_TRUNCATE_LONG_VALUES"] = "false"  # an error, not a silent cut

from filelock import FileLock
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from reprod.errors import BadInput, masked
from reprod.project import cache_dir as cache_dir

SQLITE = "sqlite:///"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or MLflow's default `sqlite:///mlflow.db`, with an absolute path in either case."""
    return absolute_uri(os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}mlflow.db")


def absolute_uri(uri: str) -> str:
    """One spelling of a store. Raises `BadInput` for what is no store, or one that ends with the process."""
    uri = uri.replace("sqlite+pysqlite:", "sqlite:", 1) if uri.startswith("sqlite+pysqlite:") else uri
    if uri.startswith(SQLITE):
        text = uri.removeprefix(SQLITE)
        name, _, query = text.partition("?")
        meant, literal = Path(urllib.parse.unquote(name)).absolute(), Path(text).absolute()
        in_folder = "?" in str(Path(text).parent)
        if literal.parent.is_dir() and (in_folder or not (query or meant.parent.is_dir())):
            meant, query = literal, ""  # SQLAlchemy would read another path than the one that is there
        if meant.name in (":memory:", "") or meant.is_dir():
            raise BadInput(f"tracking URI {uri}: nothing would be kept; name a file, sqlite:///FILE")
        return uri_of(meant) + (f"?{query}" if query else "")
    if uri.startswith("sqlite:"):
        raise BadInput(f"tracking URI {uri}: nothing would be kept; name a file, sqlite:///FILE")
    if "://" not in uri:
        raise BadInput(f"tracking URI {uri}: expected sqlite:///FILE, http(s)://HOST or postgresql://...")
    return uri


def uri_of(path: Path) -> str:
    """The URI from which SQLAlchemy reads this path; quoted only where it must be."""
    text = str(path)
    plain = urllib.parse.unquote(text) == text and "?" not in text
    return SQLITE + (text if plain else text.replace("%", "%25").replace("?", "%3F"))


def database(uri: str) -> Path | None:
    """The file of a SQLite store; None for a server."""
    return Path(urllib.parse.unquote(uri.removeprefix(SQLITE).partition("?")[0])) if uri.startswith(SQLITE) else None


def connect(uri: str | None = None) -> MlflowClient:
    """A client of the store. Raises `BadInput` where it cannot be reached.

    Processes that open a new SQLite store at once would each create its tables and leave it broken for good, so they
    go through a file lock one after the other.
    """
    uri = absolute_uri(uri) if uri else tracking_uri()
    os.environ["MLFLOW_TRACKING_URI"] = uri  # model and artifact code of MLflow reads it
    try:
        with _opening(uri):
            if not uri.startswith("http"):
                _may_open(uri)
            client = MlflowClient(uri)
            client.search_experiments(max_results=1)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"cannot reach the store {masked(uri)}: {first_line(error)[:300]}") from error
    return client


@contextlib.contextmanager
def _opening(uri: str) -> Iterator[None]:
    path = database(uri)
    if path is None:
        yield
        return
    if not path.parent.is_dir():
        raise BadInput(f"cannot reach the store {uri}: there is no folder {path.parent}")
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):  # a store that may only be read needs no tables
            stack.enter_context(FileLock(path.with_name(path.name + ".lock")))
        quoted = Path(uri.removeprefix(SQLITE)).parent
        stray = quoted != path.parent and not quoted.exists()
        yield
        if stray:  # MLflow makes the folder of the quoted name
            with contextlib.suppress(OSError):
                os.removedirs(quoted)


@cache
def _may_open(uri: str) -> None:
    """MLflow upgrades the tables of an older MLflow as soon as it opens them, and the older one cannot read them any
    more. Raises `BadInput` unless that was asked for (`--upgrade`, REPROD_UPGRADE=1), or the store has runs of ours."""
    import mlflow
    import sqlalchemy
    from mlflow.store.db.utils import _get_latest_schema_revision

    path = database(uri)
    if path is not None and not path.exists():
        return
    engine = sqlalchemy.create_engine(uri)
    try:
        with engine.connect() as connection:
            found = set(sqlalchemy.inspect(connection).get_table_names())
            if not {"alembic_version", "tags"} <= found:  # a new store, or none of MLflow: it will say so itself
                return
            revision = connection.execute(sqlalchemy.text("SELECT version_num FROM alembic_version")).scalar()
            ours = "SELECT 1 FROM tags WHERE tags.key = 'reprod.config'"
            is_ours = connection.execute(sqlalchemy.text(ours)).first() is not None
    finally:
        engine.dispose()
    if revision in (None, _get_latest_schema_revision()):
        return
    store, version = masked(uri), mlflow.__version__
    if not _is_known(revision):
        raise BadInput(f"the store {store} was made by a newer MLflow than {version} (tables {revision}): install that")
    if not is_ours and os.environ.get("REPROD_UPGRADE", "") not in ("1", "true"):
        raise BadInput(
            f"the store {store} was made by an older MLflow (tables {revision}); MLflow {version} would change its "
            "tables, and the older one could not open it any more: copy it first, then add --upgrade"
        )
    say(f"the tables of {store} ({revision}) become those of MLflow {version}; an older MLflow cannot open them")


def _is_known(revision: str) -> bool:
    from alembic.script import ScriptDirectory
    from mlflow.store.db.utils import _get_alembic_config

    scripts = ScriptDirectory.from_config(_get_alembic_config(""))
    return revision in {script.revision for script in scripts.walk_revisions()}


def experiment_id(client: MlflowClient, name: str) -> str:
    """The MLflow experiment of this name, made where it is new. Raises `BadInput` for a deleted one."""
    if (found := client.get_experiment_by_name(name)) is not None:
        return _not_deleted(found)
    try:
        kind = {"mlflow.experimentKind": "custom_model_development"}  # its page shows runs and models, not chats
        return client.create_experiment(name, artifact_location=_beside_store(client.tracking_uri, name), tags=kind)
    except MlflowException:  # another process was faster
        if (found := client.get_experiment_by_name(name)) is None:
            raise
        return found.experiment_id


def place(client: MlflowClient, name: str) -> str:
    """The MLflow experiment of new runs: what `MLFLOW_EXPERIMENT_NAME` or `MLFLOW_EXPERIMENT_ID` says, else `name`."""
    chosen, number = os.environ.get("MLFLOW_EXPERIMENT_NAME"), os.environ.get("MLFLOW_EXPERIMENT_ID")
    if not number:
        return experiment_id(client, chosen or name)
    try:
        found = client.get_experiment(number)
    except MlflowException:
        raise BadInput(f"MLFLOW_EXPERIMENT_ID={number}: the store has no such MLflow experiment") from None
    if chosen and found.name != chosen:
        raise BadInput(
            f"MLFLOW_EXPERIMENT_ID={number} is the MLflow experiment {found.name}, not MLFLOW_EXPERIMENT_NAME={chosen}"
        )
    return _not_deleted(found)


def _not_deleted(experiment: Any) -> str:
    number = experiment.experiment_id
    if experiment.lifecycle_stage == "deleted":
        raise BadInput(
            f"the MLflow experiment {experiment.name} (id {number}) is deleted: bring it back with `mlflow experiments "
            f"restore --experiment-id {number}`, or let MLFLOW_EXPERIMENT_NAME name another"
        )
    return number


def _beside_store(uri: str, name: str) -> str | None:
    """Artifacts of a SQLite store lie beside it. (MLflow would put them into the folder that happens to be current.)"""
    path = database(uri)
    if path is None:
        return None
    folder = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return artifact_text(path.parent / "mlruns" / folder)


def artifact_text(folder: Path) -> str:
    """A local folder as MLflow keeps it: it decodes what looks quoted, so that must be quoted once more."""
    text = str(folder)
    return text if urllib.parse.unquote(text) == text else text.replace("%", "%25")


def artifact_folder(uri: str) -> Path | None:
    """The folder that MLflow means by a local artifact URI; None for one on a server."""
    if uri.startswith("file:") or ":" not in uri.partition("/")[0]:
        return Path(urllib.parse.unquote(uri.removeprefix("file://")))
    return None


def first_line(error: BaseException) -> str:
    lines = masked(str(error)).strip().splitlines()
    return lines[0][:500] if lines else type(error).__name__


def say(text: str) -> None:
    """A sentence for the person who watches; the run goes on where there is nobody any more (a closed terminal)."""
    with contextlib.suppress(OSError):
        print(f"reprod: {masked(text)}", file=sys.stderr, flush=True)


warnings.filterwarnings("ignore", category=FutureWarning, module="mlflow")
