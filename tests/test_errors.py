"""How a sentence names many."""

import pandas as pd

from pathssl.errors import some


def test_the_first_names_and_how_many_more():
    assert some(["a", "b", "c"], 3) == "a, b, c" and some(pd.Index(["a", "b", "c"]), 2) == "a, b and 1 more"
    assert some([], 2) == "" and some([1, 2, 3, 4], 1) == "1 and 3 more"
