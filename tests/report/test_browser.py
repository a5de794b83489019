"""The page in a real browser: headless Chromium, which Debian packages as `chromium`."""

import html
import json
import re
import shutil
import subprocess

import pytest
from fake_study import DEMO, coverage, write_study
from PIL import Image

from pathssl import records
from pathssl.report.album import Chapter, Plate, Table, write_album
from pathssl.report.page import write_report

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
  document.getElementById("out").textContent = JSON.stringify({{
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


def measure(page, folder, width, *options):
    """What the page looks like on a screen `width` px wide."""
    folder.mkdir()
    wrapper = folder / "wrapper.html"
    wrapper.write_text(WRAPPER.format(width=width, page=page.absolute().as_uri()))
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
    assert seen["minTable"] > 0.7 * min(width, 1200)


def test_the_page_follows_the_readers_dark_scheme(page, tmp_path):
    light = measure(page, tmp_path / "light", 800, "--blink-settings=preferredColorScheme=1")
    dark = measure(page, tmp_path / "dark", 800, "--blink-settings=preferredColorScheme=0")
    assert light["background"] == "rgb(253, 252, 253)"
    assert dark["background"] == "rgb(21, 19, 26)"


def test_the_browser_check_sees_overflow_and_requests(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text('<body><div style="width:600px">wide</div><img src="http://pathssl.invalid/x.png"></body>')
    seen = measure(bad, tmp_path / "browser", 390)
    assert seen["scrollWidth"] > 390
    assert "DIV." in seen["wide"]
    assert seen["requests"] == ["http://pathssl.invalid/x.png"]
