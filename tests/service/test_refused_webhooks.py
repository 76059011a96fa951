"""The cost of a refused delivery is the same for every project; tests/bench measures it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from boxsched.api.resources import webhooks
from boxsched.api.resources.webhooks import REFUSED_EVERY_SECONDS, pause_before_refusal
from boxsched.secrets.vault import Vault
from tests.service.code_hosts import SECRET, push, secured, send
from tests.service.running_service import RunningService

PROJECTS = {"one": [SECRET], "two": ["another", SECRET], "none": [None], "nowhere": []}


@pytest.fixture
async def service(boxless_service: RunningService) -> RunningService:
    for name, secrets in PROJECTS.items():
        for secret in secrets:
            await boxless_service.project(name, webhook_secret=secret)
    return boxless_service


async def test_as_many_secrets_are_tried_of_every_project(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    verified = webhooks.verified

    def counting(
        provider: str, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
    ) -> bool:
        tried.append(len(secrets))
        return verified(provider, headers, body, secrets, now)

    monkeypatch.setattr(webhooks, "verified", counting)
    said = set()
    for _ in range(2):
        for name in PROJECTS:
            answer = await send(service, push(), project=name, secret="a wrong one")
            assert answer.status == 401
            said.add(answer.body)
    assert len(said) == 1
    assert tried == [webhooks._SECRETS_TRIED] * 2 * len(PROJECTS)
    for name in ("one", "two"):  # now their settings are in memory
        assert (await send(service, push(), project=name)).status == 200
        tried.clear()
        assert (await send(service, push(), project=name, secret="a wrong one")).status == 401
        assert tried == [webhooks._SECRETS_TRIED]


async def test_a_refused_generic_delivery_is_checked_as_often_for_every_project(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    verified = webhooks.verified

    def counting(provider: str, headers: Any, body: bytes, secrets: Any, now: float) -> bool:
        tried.append(len(secrets))
        return verified(provider, headers, body, secrets, now)

    monkeypatch.setattr(webhooks, "verified", counting)
    for name in PROJECTS:
        body = {"branch": "main"}
        answer = await send(service, body, provider="generic", project=name, secret="a wrong one")
        assert answer.status == 401
    assert tried == [webhooks._SECRETS_TRIED] * 2 * len(PROJECTS)


async def test_a_secret_is_unsealed_once_until_the_keys_change(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsealed: list[str] = []
    opened = Vault.open

    def counting(self: Vault, owner: str, *of: Any) -> str:
        unsealed.append(owner)
        return opened(self, owner, *of)

    await secured(boxless_service)
    monkeypatch.setattr(Vault, "open", counting)
    for _ in range(3):
        assert (await send(boxless_service, push(), secret="a wrong one")).status == 401
        assert (await send(boxless_service, push())).status == 200
    assert len(unsealed) == 1
    await secured(boxless_service)
    assert (await send(boxless_service, push())).status == 200
    assert len(unsealed) == 2, "it was sealed anew"


def test_refusals_are_answered_at_fixed_steps_of_time() -> None:
    step = REFUSED_EVERY_SECONDS
    for taken in (0.0, 0.1 * step, 0.9 * step, 1.1 * step, 7.5 * step):
        steps = (taken + pause_before_refusal(taken)) / step
        assert steps == pytest.approx(int(taken / step) + 1)
