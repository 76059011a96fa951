"""A refusal names the field or value that was probably meant, and the correct form."""

import pytest

from tests.service.running_service import API, RunningService, job

SETTINGS = f"{API}/projects/web"
BUILDS = f"{API}/projects/web/builds"


@pytest.mark.parametrize(
    ("settings", "field", "says"),
    [
        ({"jobs": [job(environment={"A": "1", "PORT": 8080})]},
         "jobs[0].environment.PORT", 'write "8080"'),
        ({"jobs": [job(environment={"DEBUG": True})]},
         "jobs[0].environment.DEBUG", 'write "true"'),
        ({"jobs": [job(environment={"A": "1", "1ST": "x"})]}, "jobs[0].environment", "'1ST'"),
        ({"servers": {"a": {}, "b": {"jobs": [job(environment={"N": 1})]}}},
         "servers.b.jobs[0].environment.N", 'write "1"'),
        ({"priority_branch": []}, "priority_branch", "did you mean priority_branches?"),
        ({"jobs": [{**job(), "timeout": 5}]}, "jobs[0].timeout", "timeout_seconds"),
        ({"servers": {"s": {"stratgy": "manual"}}}, "servers.s.stratgy", "strategy"),
        ({"servers": {"s": {"strategy": "manul"}}}, "servers.s.strategy", "manual"),
        ({"cancellation": [["main", "al"]]}, "cancellation[0][1]", "none, queued, all"),
        ({"schedules": [{"cron": "@dayly", "branch": "x"}]}, "schedules[0].cron", "@daily"),
        ({"schedules": [{"cron": "@daily", "branch": "x", "time_zone": "Europe/Berln"}]},
         "schedules[0].time_zone", "Europe/Berlin"),
        ({"repository": "http://example.org/x.git"}, "repository", "https://HOST/PATH"),
    ],
)  # fmt: skip
async def test_mistakes_in_settings_get_a_hint(
    boxless_service: RunningService, settings: dict[str, object], field: str, says: str
) -> None:
    answer = await boxless_service.call("PUT", SETTINGS, settings)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert says in answer.error["message"]


async def test_mistakes_in_a_server_get_a_hint(boxless_service: RunningService) -> None:
    await boxless_service.project("web", servers={"production": {"jobs": [job()]}})
    answer = await boxless_service.call(
        "POST", f"{API}/projects/web/deploys", {"server": "prodution"}
    )
    assert (answer.status, answer.error["field"]) == (422, "server")
    assert "did you mean production?" in answer.error["message"]


@pytest.mark.parametrize(
    ("path", "field", "says"),
    [
        ("/workloads?projct=web", "projct", "did you mean project?"),
        ("/workloads?kind=deplo", "kind", "deploy"),
        ("/workloads?kind=build&kind=build", "kind", "once"),
        ("/boxes?limit=1", "limit", "unknown query parameter"),
        ("/projects/nope?x", "x", "unknown query parameter"),
        ("/events?%ff=1", "\\xff", "must be valid UTF-8"),
        ("/jobs/w1-1/log?folow=1", "folow", "follow"),
    ],
)
async def test_mistakes_in_query_parameters_get_a_hint(
    boxless_service: RunningService, path: str, field: str, says: str
) -> None:
    answer = await boxless_service.call("GET", API + path)
    assert (answer.status, answer.error["field"]) == (422, field), answer.body
    assert says in answer.error["message"]


async def test_without_a_token_the_answer_reveals_no_parameters(
    boxless_service: RunningService,
) -> None:
    assert (await boxless_service.call("GET", f"{API}/boxes?x=1", token=None)).status == 401


async def test_health_checks_may_add_any_parameters(boxless_service: RunningService) -> None:
    for path in ("/healthz?x=1&x=2", "/readyz?now", "/?filter=web"):
        assert (await boxless_service.call("GET", path)).status == 200
