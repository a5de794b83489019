"""The report's tables for papers, in LaTeX with booktabs."""

from collections.abc import Sequence

_SIGNS = {"\\": r"\textbackslash{}", "±": r"$\pm$", "*": "$^*$", "−": "$-$", "×": r"$\times$"}
_SIGNS |= {"†": r"$^\dagger$", "‡": r"$^\ddagger$", "§": r"$^\S$"}
_SIGNS |= {sign: rf"\{sign}" for sign in "&%$#_{}"} | {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_SIGNS |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
_SIGNS |= {"\u202f": r"\,", "⁻": "$^{-}$", "—": "---", "–": "--"} | {
    raised: f"$^{{{i}}}$" for i, raised in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")
}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int, notes: Sequence[str]) -> str:
    """A tabular of plain texts, which are escaped; the first `texts` columns are flush left. `notes` are comments above it."""
    lines = [f"% {' '.join(note.split())}" for note in notes]
    lines += [rf"\begin{{tabular}}{{{'l' * texts}{'r' * (len(head) - texts)}}}", r"\toprule"]
    lines += [rf"{_row(head)} \\", r"\midrule", *(rf"{_row(row)} \\" for row in rows)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(cells: Sequence[str]) -> str:
    text = " & ".join(map(escaped, cells))
    return f"{{}}{text}" if text.startswith("[") else text  # after \\\\ a bracket would be an option


def escaped(text: str) -> str:
    """`text` with LaTeX's own signs made harmless, and those of the report as LaTeX has them."""
    return "".join(_SIGNS.get(sign, sign) for sign in text)
