"""The plan: balanced, mirrored, the same cells in the same order for every variant of a block."""

from __future__ import annotations

from collections import Counter, defaultdict

from hypothesis import given
from hypothesis import strategies as st

from harness.core.model import Cell
from harness.core.planning import Plan, make_plan, plan_from_json, plan_to_json

GUESTS = ((("aio", "native"),), (("aio", "threads"),))


def plan_for(
    *, variants: int = 2, blocks: int = 4, depths: int = 3, repeats: int = 1, seed: int = 1, guests: int = 0
) -> Plan:
    configs = GUESTS[:guests] or ((),)
    cells = [Cell("randread", "4k", 2**d, guest=config) for config in configs for d in range(depths)]
    return make_plan(
        variants=[f"v{n}" for n in range(variants)],
        cells=cells,
        guests=configs,
        blocks=blocks,
        repeats=repeats,
        runtime=5.0,
        ramp=1.0,
        seed=seed,
    )


plans = st.builds(
    plan_for,
    variants=st.integers(2, 4),
    blocks=st.integers(1, 9),
    depths=st.integers(1, 4),
    repeats=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
    guests=st.integers(0, 2),
)


@given(plans)
def test_every_combination_is_run_exactly_once(plan: Plan) -> None:
    seen = Counter(
        (session.block, session.variant, iteration.cell, iteration.repeat)
        for session in plan.sessions
        for iteration in session.iterations
    )
    assert set(seen.values()) == {1}
    cells = {iteration.cell for session in plan.sessions for iteration in session.iterations}
    repeats = {iteration.repeat for session in plan.sessions for iteration in session.iterations}
    assert len(seen) == plan.blocks * len(plan.variants) * len(cells) * len(repeats)


@given(plans)
def test_odd_blocks_mirror_the_block_before_them(plan: Plan) -> None:
    orders: dict[int, dict[object, list[str]]] = defaultdict(lambda: defaultdict(list))
    for session in plan.sessions:
        orders[session.block][session.guest].append(session.variant)
    for block in range(1, plan.blocks, 2):
        for guest, order in orders[block].items():
            assert order == orders[block - 1][guest][::-1]


@given(plans)
def test_all_variants_of_a_block_visit_the_cells_in_the_same_order(plan: Plan) -> None:
    orders: dict[tuple[int, object], set[tuple[Cell, ...]]] = defaultdict(set)
    for session in plan.sessions:
        orders[session.block, session.guest].add(tuple(i.cell for i in session.iterations))
    assert all(len(order) == 1 for order in orders.values())


@given(plans)
def test_the_plan_survives_json(plan: Plan) -> None:
    assert plan_from_json(plan_to_json(plan)) == plan


def test_numbers_count_the_order_of_execution() -> None:
    plan = plan_for(guests=2, repeats=3)
    numbers = [iteration.number for session in plan.sessions for iteration in session.iterations]
    assert numbers == list(range(plan.iteration_count))
    assert [session.number for session in plan.sessions] == list(range(len(plan.sessions)))


def test_both_starts_occur_over_seeds() -> None:
    starts = {plan_for(seed=seed).sessions[0].variant for seed in range(30)}
    assert starts == {"v0", "v1"}


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan_for(seed=7, blocks=20) == plan_for(seed=7, blocks=20)
    assert plan_for(seed=7, blocks=20) != plan_for(seed=8, blocks=20)


def test_the_cell_order_rotates_from_block_to_block() -> None:
    plan = plan_for(blocks=3, depths=3)
    first = {session.block: session.iterations[0].cell.iodepth for session in plan.sessions}
    assert first == {0: 1, 1: 2, 2: 4}


def test_a_guest_factor_has_sessions_of_its_own() -> None:
    plan = plan_for(guests=2, blocks=1)
    assert len(plan.sessions) == 2 * 2
    for session in plan.sessions:
        assert {iteration.cell.guest for iteration in session.iterations} == {session.guest}
