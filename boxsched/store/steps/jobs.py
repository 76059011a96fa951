"""The jobs of a new workload: their rows and expected durations."""

from collections.abc import Collection, Mapping, Sequence

import msgspec

from boxsched.model import ProjectId, WorkloadId, job_id
from boxsched.protocol import inbox
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.records import JobSpec
from boxsched.store.rows import json_text, retries_text

_SQL = load("submission.sql")

Expected = Mapping[tuple[ProjectId, str], float]  # seconds, by project and job name


def expected(names: Collection[tuple[ProjectId, str]]) -> Steps[Expected]:
    """Return the expected durations of these jobs, without jobs that never passed."""
    found = yield _SQL["expected_durations"].rows(sorted(names))
    return {
        (ProjectId(project), name): float(seconds)
        for text in found
        for project, name, seconds in msgspec.json.decode(text[0] or "[]")
    }


def rows(
    project: ProjectId, workload: WorkloadId, jobs: Sequence[JobSpec], durations: Expected
) -> list[Row]:
    """Return the values for ``insert_jobs``."""
    return [
        (
            job_id(workload, index),
            job.name,
            job.box_type,
            job.timeout_seconds,
            _seconds(project, job, durations),
            json_text(job.commands),
            json_text(job.environment),
            job.show_commands,
            retries_text(job.retry),
            json_text(job.artifacts),
            job.image,
        )
        for index, job in enumerate(jobs)
    ]


def asked(
    project: ProjectId, jobs: Sequence[JobSpec], durations: Expected
) -> tuple[inbox.SubmitJob, ...]:
    """Return the jobs' values for the leader."""
    return tuple(
        [
            inbox.SubmitJob(
                job.name,
                job.box_type,
                job.timeout_seconds,
                _seconds(project, job, durations),
                job.retry,
            )
            for job in jobs
        ]
    )


def _seconds(project: ProjectId, job: JobSpec, durations: Expected) -> float:
    """Return the expected duration, never more than the limit (docs/scheduling.md, "Expected
    durations").
    """
    return min(durations.get((project, job.name), job.timeout_seconds), job.timeout_seconds)
