"""The limit, the share of it, and what of that is a target."""

import pytest

from bench.accept import Round, summarise


def one(*, accepts: float) -> Round:
    return Round(
        empty_rpcs_per_second=3_000,
        bare_inserts_per_second=6_000,
        accepts_per_second=accepts,
        dispatching_accepts_per_second=accepts,
        latency_ms=range(101),
    )


def test_the_limit_is_an_rpc_and_then_a_row() -> None:
    assert one(accepts=1).limit_per_second == pytest.approx(2_000)
    assert one(accepts=1_500).share == pytest.approx(0.75)


@pytest.mark.parametrize(("accepts", "met"), [((500, 1_000, 5_000), True), ((500, 999, 5_000), False)])
def test_the_target_is_half_of_it_in_the_median_round(accepts: tuple[float, ...], met: bool) -> None:
    summary = summarise([one(accepts=each) for each in accepts], clients=32)
    (target,) = summary.targets
    assert target.met is met
    assert summary.results["latency_ms"] == {"p50": 50, "p99": 99}
    assert len(summary.results["rounds"]) == 3
