"""The page in a real browser: headless Chromium, which Debian packages as `chromium`."""

import html
import json
import re
import shutil
import subprocess
import time

import numpy as np
import pytest
from fake_study import DEMO, coverage, write_study
from PIL import Image

from pathssl import records
from pathssl.report.album import Chapter, Plate, Table, write_album
from pathssl.report.pictures import KINDS
from pathssl.report.write import write_report

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here (apt-get install chromium)"),
]

# Chromium's own window stops at 500 px: a narrower screen is an iframe. `measure` runs when the page in it has loaded.
WRAPPER = """<!doctype html><body><pre id="out"></pre>
<iframe id="page" style="border:0;width:{width}px;height:900px"></iframe>
<script>
const frame = document.getElementById("page");
frame.onload = () => {{
  const page = frame.contentDocument, view = frame.contentWindow;
  const inBox = (element) => element.closest(".box, .wide a, pre, .hidden, .skip, svg");
  const wide = [...page.body.querySelectorAll("*")].filter(
    (element) => !inBox(element.parentElement) && element.getBoundingClientRect().right > {width} + 0.5);
  const inner = (a, b) => Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1
    && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1;
  const overlaps = [...page.querySelectorAll("svg.chart")].flatMap((svg) => {{
    const texts = [...svg.querySelectorAll("text")].map((text) => [text.textContent, text.getBoundingClientRect()]);
    const figure = (svg.closest("figure") ?? svg.closest("th") ?? svg).getBoundingClientRect();
    const outside = svg.closest("figure") ? texts.filter(([, box]) => box.right > figure.right || box.left < figure.left) : [];
    return [...outside.map(([text]) => text + " outside"),
      ...texts.flatMap(([a, box], i) => texts.slice(i + 1).filter(([, other]) => inner(box, other)).map(([b]) => a + " on " + b))];
  }});
  const cut = [...page.querySelectorAll("td, th, label, .mark, figcaption, nav a")].filter(
    (element) => element.clientWidth > 0 && element.scrollWidth > element.clientWidth + 1);
  document.getElementById("out").textContent = JSON.stringify({{
    overlaps, cut: cut.map((element) => element.tagName + " " + element.textContent.trim().slice(0, 60)), acted: (() => {{ {act} }})(),
    scrollWidth: page.documentElement.scrollWidth,
    wide: wide.map((element) => element.tagName + "." + element.className),
    requests: view.performance.getEntriesByType("resource").map((entry) => entry.name),
    height: page.documentElement.scrollHeight,
    background: view.getComputedStyle(page.body).backgroundColor,
    minTable: Math.min(...[...page.querySelectorAll(".box")].map((box) => box.clientWidth)),
  }});
}};
frame.src = "{page}";
</script></body>"""


def measure(page, folder, width, *options, act=""):
    """What the page looks like on a screen `width` px wide; `acted` is what the statements `act` return, which see `page` and `view`."""
    folder.mkdir()
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=width, act=act, page=page.absolute().as_uri()))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [
        f"--user-data-dir={folder / 'profile'}",
        "--allow-file-access-from-files",
        "--hide-scrollbars",
        *options,
    ]
    command += ["--window-size=1500,1000", "--virtual-time-budget=8000", "--dump-dom", wrapper.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    return json.loads(html.unescape(re.search(r'<pre id="out">(.*?)</pre>', dom, re.S)[1]))


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    arms = {
        "augmentation=dino": 0.0,
        "augmentation=a_very_long_name_of_an_arm_without_end": 0.05,
        "augmentation=weak": -0.1,
    }
    arms = {f"{arm},model=vits16": effect for arm, effect in arms.items()}
    baseline = "augmentation=dino,model=vits16"
    folder = tmp_path_factory.mktemp("outputs") / "a_long_name_for_a_study_of_augmentations"
    write_study(folder, arms, seeds=3, report=DEMO | {"baseline": baseline})
    slide = "TCGA-AA-0001-01Z-00-DX1.6D8F7A0C-3E19-4C5A-B7E2-90F1A2B3C4D5.svs"
    data = {
        "slides": 1000,
        "cases": 300,
        "tissue_mm2": 123_456.0,
        "held_out": [],
        "quarantined": [[f"a/{slide}", "it is cut short"]],
    }
    for i, run in enumerate(records.find_runs(folder)):
        records.write_coverage(run, 200, coverage({0.25: 6_400 + i, 0.5: 6_400}, {slide: 3}))
        (run / "data.json").write_text(json.dumps(data))
    return write_report(folder)


@pytest.fixture(scope="module")
def five(tmp_path_factory):
    arms = {
        "teacher=m0.9": 0.0,
        "teacher=m0.95": 0.1,
        "teacher=m0.99": 0.05,
        "teacher=m0.996": -0.08,
        "teacher=m0.999": 0.2,
    }
    folder = write_study(tmp_path_factory.mktemp("five") / "teacher_momentum", arms, seeds=3, report=DEMO)
    for k, arm in enumerate(arms):
        Image.new("RGB", (540, 132), (40 * k, 90, 120)).save(folder / arm / "seed0/pictures/tokens.png")
    return write_report(folder)


@pytest.fixture(scope="module")
def album(tmp_path_factory):
    folder = tmp_path_factory.mktemp("album")
    for name, size in (("wide.png", (1600, 400)), ("square.png", (720, 740)), ("small.png", (300, 100))):
        Image.new("RGB", size, (200, 120, 160)).save(folder / name)
    table = Table("All patches", ["patch", "slide"], [["1", "a_very_long_name_of_a_slide_without_any_end" * 3]])
    squares, wides = ([Plate(name, "alt", "caption " * 9)] * 2 for name in ("square.png", "wide.png"))
    chapters = [Chapter("Slides", "Text.", squares, [table], small=True), Chapter("Sheets", "Text.", wides)]
    chapters += [Chapter("Views", "Text.", [Plate("small.png", "alt", "")])]
    return write_album(
        folder, eyebrow="gallery", title="t", summary="run=" + "an_arm_without_end," * 9, chapters=chapters
    )


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_an_album_fits_the_screen_and_fetches_nothing_but_its_pictures(album, tmp_path, width):
    seen = measure(album, tmp_path / "browser", width)
    assert (seen["scrollWidth"], seen["wide"]) == (width, [])
    assert {name.rsplit("/", 1)[-1] for name in seen["requests"]} <= {"wide.png", "square.png", "small.png"}


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_nothing_is_wider_than_the_screen_and_nothing_is_fetched(page, tmp_path, width):
    seen = measure(page, tmp_path / "browser", width)
    assert seen["height"] > 3000
    assert (seen["scrollWidth"], seen["wide"], seen["requests"]) == (width, [], [])
    assert (seen["overlaps"], seen["cut"]) == ([], [])
    assert seen["minTable"] > 0.7 * min(width, 1200)


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_a_page_of_five_arms_has_no_text_on_another_and_none_cut(five, tmp_path, width):
    seen = measure(five, tmp_path / "browser", width)
    assert (seen["scrollWidth"], seen["wide"], seen["requests"]) == (width, [], [])
    assert (seen["overlaps"], seen["cut"]) == ([], [])


def test_a_columns_head_sorts_its_table_says_so_and_gives_the_first_order_back(five, tmp_path):
    act = """
    const head = page.querySelectorAll("table.arms")[0].querySelectorAll("th")[1], button = head.querySelector("button");
    const look = () => [head.getAttribute("aria-sort"), page.getElementById("sorted").textContent,
      [...head.closest("table").querySelectorAll("tbody tr")].map((row) => row.dataset.arm).join("")];
    const states = [look()];
    for (let i = 0; i < 3; i++) { button.click(); states.push(look()); }
    button.focus();
    return [states, page.activeElement === button];"""
    states, focused = measure(five, tmp_path / "browser", 1440, act=act)["acted"]
    assert focused  # a real button: the keyboard reaches it and presses it
    assert states == [
        [None, "", "01234"],
        ["ascending", "Sorted by Last checkpoint, ascending.", "30214"],  # last are means that rise as effects do
        ["descending", "Sorted by Last checkpoint, descending.", "41203"],
        [None, "Rows in their first order.", "01234"],
    ]


def test_the_legend_hides_an_arm_everywhere_but_in_the_answer_and_says_so(five, tmp_path):
    act = """
    const visible = () =>
      [...page.querySelectorAll('[data-arm="4"]')].filter((one) => one.getClientRects().length).map((one) => one.tagName);
    const before = visible(), verdicts = page.querySelectorAll(".verdicts li").length;
    page.querySelector('#legend input[value="4"]').click();
    const others = [...page.querySelectorAll('[data-arm="1"]')].every((one) => !one.classList.contains("gone"));
    const after = [visible(), page.getElementById("shown").textContent, others, page.querySelectorAll(".verdicts li").length === verdicts];
    [...page.querySelectorAll("#legend button")].find((button) => button.textContent === "Show all").click();
    return [[...new Set(before)].sort(), ...after, visible().length === before.length, page.getElementById("shown").textContent];"""
    found = measure(five, tmp_path / "browser", 1440, act=act)["acted"]
    note = "1 of 5 arms is hidden: teacher=m0.999. The answer keeps all."
    assert found == [["FIGURE", "TR", "g"], [], note, True, True, True, ""]


@pytest.mark.alone
def test_the_largest_page_opens_in_two_seconds(tmp_path):
    arms = {f"teacher=m0.{k}": 0.001 * k for k in range(10, 50)}
    report = DEMO | {"baseline": "teacher=m0.10"}
    folder = write_study(tmp_path / "large", arms, seeds=3, report=report, lines=20, checkpoints=10)
    for k, arm in enumerate(arms):
        for i, name in enumerate(KINDS):
            noise = np.random.default_rng(3 * k + i).integers(0, 255, (30, 200, 3), dtype=np.uint8)
            Image.fromarray(noise).resize((1600, 240)).save(folder / arm / "seed0/pictures" / name)
    page = write_report(folder)
    blank = tmp_path / "blank.html"
    blank.write_text("<!doctype html>")
    assert 2_400_000 < page.stat().st_size < 5_000_000
    assert min(opening(page, tmp_path) for _ in range(2)) - min(opening(blank, tmp_path) for _ in range(2)) < 2


def opening(page, folder):
    """Seconds until a browser that was not running has drawn the page."""
    command = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        f"--user-data-dir={folder / 'profile'}",
    ]
    start = time.perf_counter()
    subprocess.run(
        [*command, f"--screenshot={folder / 'shot.png'}", page.as_uri()], capture_output=True, timeout=60, check=True
    )
    return time.perf_counter() - start


def test_the_page_follows_the_readers_dark_scheme(page, tmp_path):
    light = measure(page, tmp_path / "light", 800, "--blink-settings=preferredColorScheme=1")
    dark = measure(page, tmp_path / "dark", 800, "--blink-settings=preferredColorScheme=0")
    assert light["background"] == "rgb(253, 252, 253)"
    assert dark["background"] == "rgb(21, 19, 26)"


def test_the_browser_check_sees_overflow_and_requests(tmp_path):
    bad = tmp_path / "bad.html"
    text = '<text x="9" y="20">one</text><text x="12" y="22">two</text>'
    table = '<table style="table-layout:fixed;width:60px"><tr><td style="white-space:nowrap">far too long a text</td></tr></table>'
    bad.write_text(
        f'<body><div style="width:600px">wide</div><img src="http://pathssl.invalid/x.png"><svg class="chart">{text}</svg>{table}</body>'
    )
    seen = measure(bad, tmp_path / "browser", 390)
    assert seen["scrollWidth"] > 390
    assert (seen["overlaps"], seen["cut"]) == (["one on two"], ["TD far too long a text"])
    assert "DIV." in seen["wide"]
    assert seen["requests"] == ["http://pathssl.invalid/x.png"]
