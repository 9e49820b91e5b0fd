"""`mlflow run . -b reprod-slurm -c slurm.json -e cifar_ode ...`: MLflow's own door to Slurm, a project backend.

The JSON file has the fields of `reprod.pool.Options` that concern Slurm (time_minutes, mem_gb, cpus, gpus, partition,
...). The command returns once the job is queued; pre-empted, the job continues behind its checkpoint.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from mlflow.entities import RunStatus
from mlflow.exceptions import ExecutionException
from mlflow.projects.backend.abstract_backend import AbstractBackend
from mlflow.projects.submitted_run import SubmittedRun
from mlflow.projects.utils import (
    PROJECT_BUILD_IMAGE,
    PROJECT_DOCKER_ARGS,
    PROJECT_DOCKER_AUTH,
    PROJECT_ENV_MANAGER,
    PROJECT_STORAGE_DIR,
    PROJECT_SYNCHRONOUS,
    fetch_and_validate_project,
    get_or_create_run,
)

from reprod import papers, project
from reprod.config import resolve
from reprod.errors import BadInput
from reprod.jobs import pool
from reprod.jobs.plan import Job
from reprod.store import writer
from reprod.store.connection import connect

MLFLOWS_OWN = {  # what MLflow adds to the configuration
    PROJECT_BUILD_IMAGE, PROJECT_DOCKER_ARGS, PROJECT_DOCKER_AUTH, PROJECT_ENV_MANAGER, PROJECT_STORAGE_DIR,
    PROJECT_SYNCHRONOUS,
}  # fmt: skip


class SlurmRun(SubmittedRun):
    """A queued job, to MLflow."""

    def __init__(self, run_id: str, job: Any):
        super().__init__()
        self._run_id, self.job = run_id, job

    @property
    def run_id(self) -> str:
        return self._run_id

    def wait(self) -> bool:
        while self.get_status() == RunStatus.RUNNING:
            time.sleep(2)
        return self.get_status() == RunStatus.FINISHED

    def get_status(self) -> Any:
        status = connect().get_run(self.run_id).info.status
        return RunStatus.from_string(status)

    def cancel(self) -> None:
        self.job.cancel()


class SlurmBackend(AbstractBackend):
    """Submits an entry point through submitit."""

    def run(
        self, project_uri: str, entry_point: str, params: dict[str, str], version: str | None,
        backend_config: dict[str, Any], tracking_uri: str, experiment_id: str,
    ) -> SlurmRun:  # fmt: skip
        known = {key: value for key, value in backend_config.items() if key not in MLFLOWS_OWN}
        try:
            options = pool.options_from(known, "slurm", 1)
            pool.check(options)
            folder = Path(fetch_and_validate_project(project_uri, version, entry_point, params)).resolve()
            here = version is None and folder == project.root()
            config = resolve(papers.config_class(entry_point), params or {}) if here else None
            if config is not None:
                config.prepare()
        except BadInput as error:
            raise ExecutionException(str(error)) from error
        client = connect(tracking_uri)
        made = get_or_create_run(None, project_uri, experiment_id, str(folder), version, entry_point, params)
        run_id = made.info.run_id
        if config is not None:
            task = pool.SlurmTask(Job(config, resume=run_id), None, pool.task_environment(), options.cpus)
        else:  # other code than ours: it is kept where the job finds it, and runs itself
            kept = project.cache_dir() / "projects" / run_id
            shutil.copytree(folder, kept, symlinks=True)
            words = [word for name, value in (params or {}).items() for word in (f"--{name}", str(value))]
            task = pool.ProjectTask(kept, entry_point, words, run_id, options)
        job = pool.slurm_executor(options, pool.log_folder()).submit(task)
        writer.queued(client, run_id, job.job_id)
        print(f"run {run_id} is Slurm job {job.job_id}; its log: {job.paths.stderr}")
        return SlurmRun(run_id, job)
