"""Networks for the tests: fixed widths, and a hypothesis strategy."""

from __future__ import annotations

from hypothesis import strategies as st

from bench.networks import case

WIDTHS = [(3, 5, 2), (2, 4, 4, 4, 3), (3, 5, 3, 2), (3, 3, 5, 2), (2, 4, 2, 5, 3), (1, 6, 2, 6, 1)]

cases = st.builds(
    case,
    st.lists(st.integers(1, 5), min_size=3, max_size=5).map(tuple),
    st.booleans(),
    st.integers(0, 2**32 - 1),
    st.integers(1, 5),
    recurrent=st.sampled_from([True, True, True, False]),
)
