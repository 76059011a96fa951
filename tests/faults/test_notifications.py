"""kill -9 of the service between a result and its notification: at least one notification is
sent."""

from pathlib import Path

from tests.faults.service import Service
from tests.outgoing.receiver import Receiver, json_of

BUILDS = 5


async def test_a_result_is_notified_though_the_service_is_killed(tmp_path: Path) -> None:
    service = Service(
        tmp_path / "data", "--boxes", "2", "--box-driver", "none", "--allow-outgoing", "127.0.0.1"
    )
    async with Receiver.open() as receiver:
        receiver.gate.clear()  # requests arrive, and are not answered
        service.start()
        jobs = [{"name": "test", "commands": ["true"]}]
        await service.put_project("web", jobs=jobs, hooks=[{"url": receiver.url}])
        workloads = set()
        async with service.client() as client:
            for number in range(BUILDS):
                path, body = "/api/v1/projects/web/builds", {"branch": f"b{number}"}
                async with client.post(path, json=body) as answer:
                    workloads.add((await answer.json())["id"])
        await receiver.until(1)
        await service.until_idle()
        service.kill()
        before = len(receiver.got)
        receiver.gate.set()
        service.start()
        try:
            # None of them was answered; claims of the killed service end after 30 s.
            after = (await receiver.until(before + BUILDS, 90.0))[before:]
            assert {json_of(one)["workload"]["id"] for one in after} == workloads
            ids = {json_of(one)["delivery"] for one in receiver.got}
            assert len(ids) == BUILDS  # a second request has the id of the first
        finally:
            service.stop()
