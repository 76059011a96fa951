"""The names of a workload: its id ``w41``, or ``web#12`` for workload 12 of project web."""

import re

from boxsched import errors
from boxsched.client import Client

_NUMBERED = re.compile(r"(?P<project>[^#]+)#(?P<number>[1-9][0-9]{0,14})")
_JOB = re.compile(r"w[1-9][0-9]*-[1-9][0-9]*")


def is_job(text: str) -> bool:
    return _JOB.fullmatch(text) is not None


async def workload_id(client: Client, text: str) -> str:
    """Return the id; look up ``PROJECT#NUMBER``. Raises NotFound."""
    numbered = _NUMBERED.fullmatch(text)
    if numbered is None:
        return text  # the service reports what is wrong with it
    project, number = numbered["project"], int(numbered["number"])
    page = await client.workloads(project=project, number=number)
    for workload in page.workloads:
        if workload.number == number:  # an older service ignores the filter
            return workload.id
    raise errors.NotFound(f"there is no workload {text!a}")
