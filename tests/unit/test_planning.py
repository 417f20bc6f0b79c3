"""The plan: balanced, mirrored, the same cells in the same order for every variant of a block."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.model import Cell
from harness.core.planning import Costs, Plan, make_plan, plan_from_json, plan_to_json

GUESTS = ((("aio", "native"),), (("aio", "threads"), ("iothreads", 0)), (("aio", "io_uring"),))


def guests_of(count: int) -> tuple[tuple[tuple[str, str | int], ...], ...]:
    return GUESTS[:count] or ((),)


def cells_of(depths: int, guests: int) -> list[Cell]:
    return [
        Cell("randread", "4k", 2**depth, guest=config)
        for config in guests_of(guests)
        for depth in range(depths)
    ]


def plan_for(
    *, variants: int = 2, blocks: int = 4, depths: int = 3, repeats: int = 1, seed: int = 1, guests: int = 0
) -> Plan:
    return make_plan(
        variants=[f"v{n}" for n in range(variants)],
        cells=cells_of(depths, guests),
        guests=guests_of(guests),
        blocks=blocks,
        repeats=repeats,
        runtime=5.0,
        ramp=1.0,
        seed=seed,
    )


shapes = st.fixed_dictionaries(
    {
        "variants": st.integers(2, 4),
        "blocks": st.integers(1, 9),
        "depths": st.integers(1, 4),
        "repeats": st.integers(1, 3),
        "seed": st.integers(0, 1000),
        "guests": st.integers(0, 3),
    }
)
plans = shapes.map(lambda shape: plan_for(**shape))


@given(shapes)
def test_every_combination_is_run_exactly_once(shape: dict[str, int]) -> None:
    seen = Counter(
        (session.block, session.variant, session.guest, iteration.cell, iteration.repeat)
        for session in plan_for(**shape).sessions
        for iteration in session.iterations
    )
    wanted = Counter(
        (block, f"v{variant}", cell.guest, cell, repeat)
        for block in range(shape["blocks"])
        for variant in range(shape["variants"])
        for cell in cells_of(shape["depths"], shape["guests"])
        for repeat in range(shape["repeats"])
    )
    assert seen == wanted


@given(plans)
def test_a_block_is_one_session_of_each_variant_side_by_side(plan: Plan) -> None:
    size = len(plan.variants)
    groups = [plan.sessions[start : start + size] for start in range(0, len(plan.sessions), size)]
    for group in groups:
        assert sorted(session.variant for session in group) == sorted(plan.variants)
        assert len({(session.block, session.guest) for session in group}) == 1
    assert [session.block for session in plan.sessions] == sorted(session.block for session in plan.sessions)


@given(plans)
def test_odd_blocks_mirror_the_block_before_them(plan: Plan) -> None:
    orders: dict[int, dict[object, list[str]]] = defaultdict(lambda: defaultdict(list))
    for session in plan.sessions:
        orders[session.block][session.guest].append(session.variant)
    for block in range(1, plan.blocks, 2):
        for guest, order in orders[block].items():
            assert order == orders[block - 1][guest][::-1]


@given(plans)
def test_over_whole_pairs_every_variant_has_the_same_mean_position(plan: Plan) -> None:
    places: dict[str, list[int]] = defaultdict(list)
    for index, session in enumerate(plan.sessions):
        if session.block < plan.blocks // 2 * 2:
            places[session.variant].append(index % len(plan.variants))
    assert len({sum(found) for found in places.values()}) <= 1


@given(plans)
def test_all_variants_of_a_block_visit_the_cells_in_the_same_order(plan: Plan) -> None:
    orders: dict[tuple[int, object], set[tuple[Cell, ...]]] = defaultdict(set)
    for session in plan.sessions:
        orders[session.block, session.guest].add(tuple(i.cell for i in session.iterations))
    assert all(len(order) == 1 for order in orders.values())


@given(plans)
def test_a_pass_over_the_cells_ends_before_the_next_one_begins(plan: Plan) -> None:
    for session in plan.sessions:
        repeats = [iteration.repeat for iteration in session.iterations]
        assert repeats == sorted(repeats)


@given(plans)
def test_the_plan_survives_json(plan: Plan) -> None:
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


@given(plans)
def test_numbers_count_the_order_of_execution(plan: Plan) -> None:
    numbers = [iteration.number for session in plan.sessions for iteration in session.iterations]
    assert numbers == list(range(plan.iteration_count))
    assert [session.number for session in plan.sessions] == list(range(len(plan.sessions)))
    assert len({session.directory for session in plan.sessions}) == len(plan.sessions)


def test_both_starts_occur_over_seeds_and_within_a_plan() -> None:
    starts = {plan_for(seed=seed).sessions[0].variant for seed in range(30)}
    assert starts == {"v0", "v1"}
    plan = plan_for(blocks=40)
    assert {session.variant for session in plan.sessions[::4]} == {"v0", "v1"}


def test_three_variants_come_in_every_order() -> None:
    plan = plan_for(variants=3, blocks=200)
    orders = {tuple(s.variant for s in plan.sessions[start : start + 3]) for start in range(0, 600, 3)}
    assert len(orders) == 6


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    assert plan_for(seed=7, blocks=20) == plan_for(seed=7, blocks=20)
    assert plan_for(seed=7, blocks=20) != plan_for(seed=8, blocks=20)


def test_a_seed_means_the_same_plan_in_every_version_of_the_harness() -> None:
    order = "".join(session.variant[1] for session in plan_for(seed=1, blocks=8).sessions)
    assert order == "0110100110010110"


def test_the_cell_order_rotates_from_block_to_block() -> None:
    plan = plan_for(blocks=4, depths=3)
    orders = {session.block: [i.cell.iodepth for i in session.iterations] for session in plan.sessions}
    assert orders == {0: [1, 2, 4], 1: [2, 4, 1], 2: [4, 1, 2], 3: [1, 2, 4]}


def test_a_guest_factor_has_sessions_of_its_own() -> None:
    plan = plan_for(guests=2, blocks=1)
    assert len(plan.sessions) == 2 * 2
    for session in plan.sessions:
        assert {iteration.cell.guest for iteration in session.iterations} == {session.guest}


def test_the_guests_take_turns_in_coming_first() -> None:
    first = [plan_for(guests=2, blocks=4).sessions[block * 4].guest for block in range(4)]
    assert first == [GUESTS[0], GUESTS[1], GUESTS[0], GUESTS[1]]


def test_a_plans_time_is_fio_and_what_comes_with_it() -> None:
    plan = plan_for(blocks=2, depths=3)
    assert (len(plan.sessions), plan.iteration_count) == (4, 12)
    assert plan.fio_seconds == 12 * 6
    assert plan.wall_seconds(Costs(session=10, iteration=2)) == 12 * 6 + 12 * 2 + 4 * 10


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.pop("seed"),
        lambda data: data["iterations"].pop(),
        lambda data: data["sessions"][0].pop("guest"),
        lambda data: data["sessions"].append(5),
        lambda data: data["iterations"][0].pop("bs"),
    ],
)
def test_what_is_no_plan_is_refused(damage: object) -> None:
    data = plan_to_json(plan_for())
    assert callable(damage)
    damage(data)
    with pytest.raises(ValueError, match="not a plan"):
        plan_from_json(data)
