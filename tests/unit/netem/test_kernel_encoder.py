"""Options of the kernel's qdiscs: bytes by hand, what does not fit, and back again."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netem.kernel.encoder import ALWAYS, LARGEST_JITTER_NS, Chance, Netem
from netem.kernel.token_bucket import BURST_BYTES, TokenBucket
from netem.link_state import LARGEST_NS, LARGEST_RATE_BPS, LinkState, Loss, up_state

MS = 1_000_000
AB = ("a", "b")
PLAIN = LinkState(20 * MS, 1_000_000, Loss(), 24_000, 100)

PLAIN_BYTES = bytes.fromhex(
    "b4c40400 64000000 00000000 00000000 00000000 00000000"  # 312,500 ticks of 64 ns, 100 packets
    "10000100 000000000000000000000000"  # correlations
    "0c000300 0000000000000000"  # reordering
    "0c000400 0000000000000000"  # corruption
    "14000600 48e80100 00000000 00000000 00000000"  # 125,000 bytes a second
    "0c000800 48e8010000000000"  # in 64 bits
    "0c000a00 002d310100000000"  # 20,000,000 ns
    "0c000b00 0000000000000000"
)


def test_a_plain_link_in_bytes_by_hand() -> None:
    assert Netem.of(PLAIN, AB).options() == PLAIN_BYTES


def test_a_chain_of_losses_in_bytes_by_hand_with_either_state_first() -> None:
    state = replace(PLAIN, loss=Loss("gilbert_elliott", 1 / 3, 2))  # 25 % to the bad state, 50 % back
    good_first = bytes.fromhex("18000500 14000200 00000040 00000080 00000000 00000000")
    bad_first = bytes.fromhex("18000500 14000200 00000080 00000040 ffffffff ffffffff")
    assert Netem.of(state, AB).options() == PLAIN_BYTES + good_first
    assert Netem.of(state, AB, lost_first=True).options() == PLAIN_BYTES + bad_first


def test_losses_of_single_packets_an_outage_and_a_seed_by_hand() -> None:
    def with_loss(loss: str) -> bytes:
        return PLAIN_BYTES[:8] + bytes.fromhex(loss) + PLAIN_BYTES[12:]

    half = replace(PLAIN, loss=Loss("uniform", 0.5))
    assert Netem.of(half, AB).options() == with_loss("00000080")
    for outage in (PLAIN.down("hold"), PLAIN.down("cut"), replace(PLAIN, loss=Loss.of(1.0, 1.0))):
        assert Netem.of(outage, AB).options() == with_loss("ffffffff")
    assert Netem.of(PLAIN, AB).options(7) == PLAIN_BYTES + bytes.fromhex("0c000e00 0700000000000000")


def test_what_is_beyond_32_bits_is_in_the_64_bit_fields() -> None:
    far = LinkState(1_200_000_000_000, 100_000_000_000, Loss(), 10**9, 10**6)
    options = Netem.of(far, AB).options()
    assert options[:4] == b"\xff" * 4  # 274.9 s, the most that the old field says
    held = Netem.read(options)
    assert (held.delay_ns, held.rate_bps) == (far.delay_ns, far.rate_bps)


@st.composite
def states(draw: st.DrawFn) -> LinkState:
    delay_ns = draw(st.integers(0, LARGEST_NS))
    mean = draw(st.floats(0, 0.9))
    return LinkState(
        delay_ns,
        draw(st.integers(800, LARGEST_RATE_BPS)),
        draw(st.sampled_from([Loss.of(mean, draw(st.floats(1, 1000))), Loss("uniform", mean), Loss()])),
        draw(st.integers(1, 2**32 - 1)),
        draw(st.integers(1, 2**32 - 1)),
        min(draw(st.integers(0, LARGEST_JITTER_NS)), delay_ns),
        draw(st.sampled_from([None, "hold", "cut"])),
    )


@given(states(), st.booleans(), st.integers(-14, 64))
def test_what_is_written_is_read_again_and_is_what_was_asked_for(
    state: LinkState, lost_first: bool, overhead: int
) -> None:
    told = Netem.of(state, AB, lost_first=lost_first, packet_overhead=overhead)
    held = Netem.read(told.options(1))
    assert held == told and held.others == 0
    assert (held.delay_ns, held.jitter_ns) == (state.delay_ns, state.jitter_ns)
    assert held.rate_bps == pytest.approx(state.rate_bps, rel=0.005)
    assert held.mean_loss == pytest.approx(state.loss.mean if state.up else 1.0, rel=0.01, abs=1e-6)
    other = Netem.of(state, AB, lost_first=not lost_first, packet_overhead=overhead)
    assert told.differences(other) == []


@given(states())
def test_a_token_bucket_is_read_as_it_was_written(state: LinkState) -> None:
    told = TokenBucket.of(state, AB)
    assert TokenBucket.read(told.options()) == told
    assert told.limit_bytes == (state.limit_bytes if state.up else 1)


def test_a_token_bucket_in_bytes_by_hand() -> None:
    ticks = BURST_BYTES * 8_000 // 64  # at 125,000 bytes a second
    expected = (
        bytes.fromhex("28000100 00010000 00000000 48e80100 00000000 00000000 00000000")
        + (24_000).to_bytes(4, "little")
        + ticks.to_bytes(4, "little")
        + bytes.fromhex("00000000 0c000400 48e8010000000000 08000600 ea050000")
    )
    assert TokenBucket.of(PLAIN, AB).options() == expected


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (replace(PLAIN, rate_bps=799), "link a b: rate_bps: must be at least 800 for netem, not 799"),
        (
            replace(PLAIN, delay_ns=2**40, jitter_ns=2**31),
            "link a b: jitter_ns: must be at most 2147483647 for netem, not 2147483648",
        ),
        (
            replace(PLAIN, limit_packets=2**32),
            "link a b: limit_packets: must be at most 4294967295 for netem, not 4294967296",
        ),
        (
            replace(PLAIN, loss=Loss("gilbert_elliott", 1e-4, 1e8)),
            "link a b: loss: must be held within 1% in parts of 2**-32 (shorter runs) for netem, "
            "not 0.0001 in runs of 1e+08",
        ),
    ],
)
def test_what_netem_cannot_hold_is_refused_by_name(state: LinkState, words: str) -> None:
    with pytest.raises(ValueError) as caught:
        Netem.of(state, AB)
    assert str(caught.value) == words


def test_losses_rarer_than_the_kernel_can_draw_are_none() -> None:
    for loss in (Loss.of(1e-12, 1.0), Loss("uniform", 1e-12), Loss.of(1e-9, 50.0)):
        told = Netem.of(replace(PLAIN, loss=loss), AB, lost_first=True)
        assert told.mean_loss == 0 and told.chain is None


def test_what_a_token_bucket_cannot_hold_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="link a b: limit_bytes: must be at most 4294967295 for tbf"):
        TokenBucket.of(replace(PLAIN, limit_bytes=2**32), AB)
    with pytest.raises(ValueError, match="link a b: rate_bps: must be at least 800 for tbf"):
        TokenBucket.of(replace(PLAIN, rate_bps=10), AB)


def test_what_somebody_else_set_is_seen() -> None:
    told = Netem.of(PLAIN, AB)
    duplicating = bytearray(told.options())
    duplicating[16] = 1
    correlated = bytearray(told.options())
    correlated[28] = 1
    for options in (duplicating, correlated):
        assert Netem.read(bytes(options)).differences(told) == ["others: 1, not 0"]
    four_states = told.options() + bytes.fromhex("1c000500 18000100") + bytes(20)
    assert Netem.read(four_states).others == 1


def test_options_that_are_no_netems_are_refused() -> None:
    with pytest.raises(ValueError, match="netem options: 3 bytes"):
        Netem.read(b"abc")
    with pytest.raises(ValueError, match="tbf options: no parameters"):
        TokenBucket.read(b"")


def test_the_state_drawn_for_a_change_is_bad_as_often_as_the_mean_says_and_repeats_with_its_seed() -> None:
    draws = [Chance(1, AB).lost_first(0.3), Chance(1, AB).lost_first(0.3)]
    assert draws[0] == draws[1]
    chance, other = Chance(1, AB), Chance(1, ("b", "a"))
    drawn = [chance.lost_first(0.3) for _ in range(20_000)]
    assert sum(drawn) / len(drawn) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(drawn)))
    assert drawn != [other.lost_first(0.3) for _ in range(20_000)]
    assert not any(chance.lost_first(0.0) for _ in range(100))


def simulated_loss(packets_a_change: int, lost_first: bool | None) -> float:
    """Of the kernel's rules, worked out by hand: a chain that is sent anew every so many packets."""
    state = up_state(MS, 10**7, Loss.of(0.05, 4))
    chance, rand = Chance(3, AB), Chance(4, AB)
    lost = total = 0
    for _ in range(40_000 // packets_a_change):
        first = chance.lost_first(0.05) if lost_first is None else lost_first
        chain = Netem.of(state, AB, lost_first=first).chain
        assert chain is not None
        p, r, h, k1 = chain
        second = False
        for _ in range(packets_a_change):
            total += 1
            move, lose = rand.seed() & ALWAYS, rand.seed() >> 32
            if second:
                lost += lose > h
                second = move >= r
            else:
                lost += lose < k1
                second = move < p
    return lost / total


def test_however_often_a_chain_is_sent_anew_the_mean_loss_stays() -> None:
    assert simulated_loss(10, lost_first=None) == pytest.approx(0.05, abs=0.008)
    assert simulated_loss(1, lost_first=None) == pytest.approx(0.05, abs=0.006)
    assert simulated_loss(10, lost_first=False) < 0.04  # why the state is drawn
