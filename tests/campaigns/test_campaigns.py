"""Every fault campaign in small, and again with each guard dropped, which it must notice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaigns import BACKENDS, NOT_APPLIED, Backend, Campaign, NotRun, Outcome, campaigns, places

if TYPE_CHECKING:
    from pathlib import Path

ALL = campaigns()


def run(campaign: Campaign, backend: Backend, mutation: str | None = None, seed: int = 1) -> Outcome:
    # A busy machine must not fail a promise that holds. With the guard dropped, waiting longer shows nothing.
    patience = 10 if mutation is None else 1
    with places.context(campaign, backend, campaign.small, seed=seed, mutation=mutation, patience=patience) as context:
        try:
            return campaign.run(context)
        except NotRun as error:
            pytest.skip(f"not run: {error}")


@pytest.mark.parametrize(
    ("campaign", "backend"),
    [
        pytest.param(campaign, backend, id=f"{campaign.name}-{backend}")
        for campaign in ALL
        for backend in campaign.backends
    ],
)
def test_holds(campaign: Campaign, backend: Backend) -> None:
    outcome = run(campaign, backend)
    assert outcome.failed == 0, outcome.failures
    assert outcome.figures, "a campaign that counts nothing has not looked"


@pytest.mark.parametrize(
    ("campaign", "mutation"),
    [pytest.param(each, name, id=f"{each.name}-{name}") for each in ALL for name in each.mutations],
)
def test_a_dropped_guard_is_noticed(
    campaign: Campaign, mutation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    not_applied = tmp_path / "not-applied"
    monkeypatch.setenv(NOT_APPLIED, str(not_applied))
    # Several tries: a small campaign may miss the fault by chance, most easily on a busy machine.
    noticed = any(run(campaign, campaign.backends[0], mutation, seed).failed for seed in range(1, 7))
    assert not not_applied.exists(), not_applied.read_text("utf-8")
    assert noticed, f"{campaign.name} does not see that this guard is dropped: {campaign.mutations[mutation]}"


def test_every_campaign_is_complete() -> None:
    assert len({campaign.name for campaign in ALL}) == len(ALL)
    for campaign in ALL:
        assert set(campaign.full) <= set(campaign.backends) <= set(BACKENDS)
        assert campaign.mutations, f"{campaign.name} was never shown to be able to fail"
