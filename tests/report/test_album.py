import re

from pathssl.report.album import Chapter, Plate, Table, write_album


def test_an_album_shows_each_plate_with_its_words_and_escapes_them(tmp_path):
    plates = [Plate("a b#1.png", "an <i>alt</i>", "a caption & more"), Plate("c.png", "c", "")]
    table = Table("<s>Left aside</s>", ["Slide", "n"], [["<b>x</b>", "1"]], frozenset({1}))
    chapters = [Chapter("One", "Text.", plates, [table]), Chapter("Two", "None.", small=True)]
    path = write_album(tmp_path, eyebrow="gallery", title="<script>x</script>", summary="s", chapters=chapters)
    text = path.read_text()
    assert path == tmp_path / "index.html"
    assert 'src="a%20b%231.png"' in text and "an &lt;i&gt;alt" in text and "a caption &amp; more" in text
    assert not re.search("<script|<b>|<i>|<s>", text)
    assert '<td class="n">1</td>' in text
    assert text.count("<h2") == 2 and "http" not in text.replace("http-equiv", "")


def test_a_long_table_is_folded(tmp_path):
    for rows, opened in ((12, True), (13, False)):
        table = Table("t", ["a"], [["x"]] * rows)
        text = write_album(
            tmp_path, eyebrow="e", title="t", summary="s", chapters=[Chapter("c", "t", [], [table])]
        ).read_text()
        assert ("<details open>" in text) == opened
