"""Tables for papers: what LaTeX would read as its own is made harmless."""

from pathssl.report import latex
from pathssl.report.sheets import Sheet, markdown, tables_latex


def test_signs_of_latex_and_of_the_report_are_written_so_that_they_show():
    assert latex.escaped("a_b & 5 % $x$ #1 {~^\\}") == (
        r"a\_b \& 5 \% \$x\$ \#1 \{\textasciitilde{}\textasciicircum{}\textbackslash{}\}"
    )
    assert latex.escaped("−0.1 ± 2 × 10⁻³—12\u202f800") == r"$-$0.1 $\pm$ 2 $\times$ 10$^{-}$$^{3}$---12\,800"


def test_a_sheet_is_the_same_table_in_markdown_and_latex():
    sheets = [Sheet("t", ["arm", "n"], [["a_|<b>", "1"]], 1, ["one\ntwo"]), Sheet("none", [], [], 0, ["why"])]
    assert tables_latex(sheets).splitlines() == [
        "% t", "% one two", r"\begin{tabular}{lr}", r"\toprule", r"arm & n \\", r"\midrule",
        r"a\_\textbar{}\textless{}b\textgreater{} & 1 \\", r"\bottomrule",
        r"\end{tabular}",
    ]  # fmt: skip
    text = markdown("Heading", sheets)
    assert text.startswith("## Heading\n\n### t\n\n| arm | n |\n|---|---:|\n| a_\\|&lt;b> | 1 |\n\n- one two\n")
    assert "### none\n\n- why\n" in text and markdown("Heading", []) == ""


def test_a_row_that_begins_with_a_bracket_is_no_option_of_the_line_before():
    lines = latex.table(["arm", "n"], [["[a]", "1"], ["<b>|", "2"]], 1, []).splitlines()
    assert r"{}[a] & 1 \\" in lines and r"\textless{}b\textgreater{}\textbar{} & 2 \\" in lines
