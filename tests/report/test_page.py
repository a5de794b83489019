import base64
import csv
import hashlib
import html.parser
import itertools
import json
import re
import shutil
import subprocess
import sys
import time

import pytest
import yaml
from fake_study import ACCURACY, DEMO, coverage, write_run, write_study

from pathssl import records
from pathssl.report.write import write_report

ARMS = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.012}


class Outline(html.parser.HTMLParser):
    """What a page holds: elements with their attributes, and its text. Elements must be closed in order."""

    EMPTY = {"meta", "link", "br", "img", "wbr", "input"}

    def __init__(self, text: str):
        super().__init__()
        self.open, self.elements, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = write_study(tmp_path_factory.mktemp("outputs") / "demo", ARMS, seeds=2, report=DEMO)
    for run in records.find_runs(folder):
        (run / "environment.json").write_text(json.dumps({"command": "python train.py experiment=demo -m"}))
        data = {"slides": 24, "cases": 12, "tissue_mm2": 1830.4, "held_out": ["a.tif"]}
        (run / "data.json").write_text(json.dumps(data | {"quarantined": [["b.svs", "truncated"]]}))
    path = write_report(folder)
    assert path == folder / "report/index.html"
    return folder


@pytest.fixture(scope="module")
def page(demo):
    return Outline((demo / "report/index.html").read_text())


def test_the_page_answers_the_question_and_shows_where_the_answer_comes_from(page):
    expected = [
        DEMO["question"],
        DEMO["expectation"],
        "Difference to baseline",
        "Learning curves",
        "RankMe",
        "ODCorr",
        "Throughput",
        "Sampled patches",
        "teacher.momentum",
        "b.svs",
        "python train.py experiment=demo -m",
        "4 runs of 2 arms: 4 finished",
        "How far to trust these numbers",
    ]
    assert [text for text in expected if text not in page.text] == []


def test_the_page_has_a_chart_for_every_probe_metric_and_the_loss_with_its_last_values_as_text(page):
    labels = [svg["aria-label"] for svg in page.all("svg") if "against patches seen" in svg.get("aria-label", "")]
    assert len(labels) == 6
    assert all("teacher=m0.9 " in label and "teacher=m0.99 " in label for label in labels)


def test_the_page_is_one_file_that_fetches_nothing_and_runs_no_script_but_its_own(demo, page):
    [script] = re.findall("<script>(.*?)</script>", (demo / "report/index.html").read_text(), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert {meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"} == {
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    }
    assert all(image["src"].startswith("data:image/") for image in page.all("img"))
    assert page.all("script") == [{}]
    assert [link["href"] for link in page.all("link")] == ["data:,"]


def test_what_has_nothing_to_say_has_no_file_and_every_file_is_named_on_the_page(demo, page):
    written = {path.name: path.stat().st_size for path in (demo / "report").iterdir()}
    assert all(written.values())
    named = [link["href"] for link in page.all("a") if not link["href"].startswith("#")]
    assert set(named) == written.keys() - {"index.html", "figure.svg", "figure.pdf"}
    assert named == [
        "arms.csv",
        "runs.csv",
        "faults.csv",
        "compute.csv",
        "compute.tex",
        "peak.csv",
        "peak.tex",
        "labelfree.csv",
        "labelfree.tex",
        "heatmap.csv",
        "heatmap.tex",
        "report.md",
        "report.tex",
    ]


def test_a_file_of_an_earlier_report_that_has_nothing_to_say_any_more_is_removed(tmp_path):
    folder = write_study(tmp_path / "mine", {"model=a": 0.0}, seeds=1, lines=4, checkpoints=1)
    (folder / "report").mkdir()
    for name in ("published.md", "faults.csv", "notes.txt"):
        (folder / "report" / name).write_text("from before")
    write_report(folder)
    left = {path.name for path in (folder / "report").iterdir()}
    assert "notes.txt" in left and not {"published.md", "faults.csv"} & left


def test_the_page_can_be_read_by_a_screen_reader(page):
    assert all(header.get("scope") in ("col", "row", "rowgroup") for header in page.all("th"))
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(image["alt"] for image in page.all("img"))
    assert all("aria-label" in svg or svg.get("aria-hidden") == "true" for svg in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert set(targets) <= set(ids)
    inside = [link["href"][1:] for link in page.all("a") if link["href"].startswith("#")]
    assert inside[0] == "answer"  # the skip link
    titled = [attributes["id"] for tag, attributes in page.elements if tag == "h2"]
    assert inside[1:] == titled[1:]  # the contents name every section below the answer, in order
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_csv_markdown_and_page_give_the_same_numbers(demo, page):
    arms = list(csv.DictReader((demo / "report/arms.csv").read_text().splitlines()))
    markdown = (demo / "report/report.md").read_text()
    assert [(row["metric"], row["arm"]) for row in arms[:2]] == [
        (ACCURACY, "teacher=m0.9"),
        (ACCURACY, "teacher=m0.99"),
    ]
    row = arms[1]
    numbers = [float(row[f"difference{end}"]) for end in ("", "_low", "_high")]
    text = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*numbers).replace("-", "−")
    effect = f"{float(row['difference_in_sd']):+.1f}".replace("-", "−")
    assert float(row["difference_in_sd"]) == pytest.approx(numbers[0] / float(row["pooled_sd"]))
    assert f"| {text} | {effect} |" in markdown
    assert f"{text}{effect}" in re.sub("\\n", "", page.text)
    assert f"{text.replace('−', '$-$')} & {effect}".replace("−", "$-$") in (demo / "report/report.tex").read_text()
    assert text in page.text
    assert text in markdown
    last = [float(run[ACCURACY]) for run in csv.DictReader((demo / "report/runs.csv").read_text().splitlines())]
    assert float(row["last"]) == pytest.approx(sum(last[2:]) / 2)


@pytest.mark.parametrize("family", [[ACCURACY], [ACCURACY, "unsupervised/rankme"]])
def test_only_differences_with_a_verdict_are_in_colour(tmp_path, family):
    arms = {"teacher=m0.9": 0.0, "teacher=m0.99": 0.3}  # told apart in every metric but ODCorr
    path = write_report(write_study(tmp_path / "demo", arms, report=DEMO | {"family": family}, seeds=3, pictures=False))
    told = {row["metric"] for row in csv.DictReader((path.parent / "arms.csv").open()) if row["told_apart"] == "True"}
    assert {ACCURACY, "unsupervised/rankme"} <= told
    tables = re.findall(r'<table class="arms.*?</table>', path.read_text(), re.S)
    coloured = {re.search("<code>(.*?)</code>", table)[1] for table in tables if 'class="n told"' in table}
    assert coloured == set(family)


def test_a_picture_that_all_arms_share_stands_once(page):
    assert len(page.all("img")) == 2
    assert page.text.count("The same in all arms (seed 0)") == 2


def test_text_from_configs_is_escaped_everywhere(tmp_path):
    bad, arm = "<script>alert(1)</script>", "<script>alert(1)<|script>\\input{x}"  # a folder's name has no slash
    report = {"question": f"{bad} & <img src=x onerror=alert(1)>", "expectation": bad, "baseline": bad}
    folder = write_study(tmp_path / "evil", {"a=1": 0.0, arm: 0.1}, seeds=2, report=report)
    for run in records.find_runs(folder):
        config = yaml.safe_load((run / "config.yaml").read_text())
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"study": bad}))
        key = f"{arm}/linear/test/balanced_accuracy"
        rows = {f"probe/{key}": 0.5 + records.seed_of(run) / 10, "train/loss": 1.0}
        records.append_metrics(run, {"step": 300, "patches_seen": 300 * 64} | rows)
        (run / "environment.json").write_text(json.dumps({"command": f"python {bad}", "commit": bad}))
        data = {"slides": 1, "cases": 1, "tissue_mm2": 1.0, "held_out": [], "quarantined": [[bad, bad]]}
        (run / "data.json").write_text(json.dumps(data))
        records.write_coverage(run, 300, coverage({0.5: 64}, {bad: 3}))
    status = {"total_steps": 200, "patches_seen": 0, "host": bad, "job_id": None}
    records.write_status(folder / "a=1/seed0", "failed", step=0, error=f"ValueError: <i>no</i> {bad}", **status)
    outline = Outline(write_report(folder).read_text())
    assert (outline.all("script"), outline.all("i")) == ([{}], [])
    assert all(image["src"].startswith("data:") for image in outline.all("img"))
    shown = (
        bad,
        arm,
        report["question"],
        f"The baseline {bad} has no run",
        f"ValueError: <i>no</i> {bad}",
        f"{arm}, linear",
    )
    assert [text for text in shown if text not in outline.text] == []
    markdown, tex = ((folder / f"report/report.{kind}").read_text() for kind in ("md", "tex"))
    assert re.findall("<[a-z]", markdown) == []
    assert "&lt;script>" in markdown
    assert r"\textbackslash{}input\{x\}" in tex
    assert r"\input" not in re.sub("(?m)^%.*", "", tex)


def test_a_study_that_has_only_begun_has_a_page(tmp_path):
    run = tmp_path / "young/teacher=m0.9/seed0"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("study: young\nseed: 0\n")
    assert "No checkpoint has been probed yet" in Outline(write_report(tmp_path / "young").read_text()).text
    records.append_metrics(run, {"step": 5, "patches_seen": 40, "train/loss": 3.0})
    (run / "pictures").mkdir()
    (run / "pictures/patches.png").write_bytes(b"\x89PNG half")
    assert "Loss" in Outline(write_report(tmp_path / "young").read_text()).text


def test_a_failed_run_is_shown_with_the_last_line_of_its_error(tmp_path):
    folder = write_study(tmp_path / "demo", ARMS, seeds=2, report=DEMO)
    status = {"total_steps": 200, "patches_seen": 640, "host": None, "job_id": None}
    error = "Traceback (most recent call last):\n  File x\nOutOfMemoryError: 2 GiB\n"
    records.write_status(folder / "teacher=m0.9/seed1", "failed", step=10, error=error, **status)
    text = Outline(write_report(folder).read_text()).text
    assert "OutOfMemoryError: 2 GiB" in text
    assert "File x" not in text
    assert "3 finished, 1 failed" in text


def test_fifteen_arms_keep_their_own_looks(tmp_path):
    arms = {f"teacher=m0.{k}": 0.0 for k in range(10, 25)}
    text = write_report(
        write_study(tmp_path / "many", arms, seeds=1, lines=4, checkpoints=1, pictures=False)
    ).read_text()
    legend = re.search(r'<fieldset id="legend".*?>(.*?)</fieldset>', text, re.S)[1]
    looks = re.findall(r"<svg.*?</svg>", legend, re.S)
    assert len(looks) == len(set(looks)) == 15


@pytest.mark.slow
def test_reading_a_study_imports_neither_torch_nor_hydra():
    code = "import sys, pathssl.report, pathssl.records; print({'torch', 'hydra', 'cucim'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.slow
@pytest.mark.alone
def test_a_hundred_runs_of_ten_thousand_lines_take_less_than_20_seconds(tmp_path):
    template = write_run_once(tmp_path)
    for arm in range(20):
        for seed in range(5):
            shutil.copytree(template, tmp_path / f"large/teacher=m0.{arm + 10}/seed{seed}")
    start = time.perf_counter()
    path = write_report(tmp_path / "large")
    assert time.perf_counter() - start < 20
    assert path.stat().st_size < 5_000_000


def write_run_once(folder):
    import numpy as np

    run = folder / "template/teacher=m0.9/seed0"
    write_run(run, 0.0, random=np.random.default_rng(0), report=DEMO | {"baseline": "teacher=m0.10"}, checkpoints=20)
    probes = [row for row in records.read_metrics(run) if ACCURACY in row]
    rows = [
        {"step": k, "patches_seen": 64 * k, "time_s": 0.1 * k, "train/loss": 5 + 1 / (k + 1), "train/lr": 1e-4}
        | {"train/patches_per_s": 74.123456, "train/data_wait": 0.0212345, "train/teacher_entropy": 6.912345}
        | {"train/weight_decay": 0.04, "train/grad_norm": 1.2345, "train/momentum": 0.99}
        for k in range(10_000)
    ]
    for k, probe in enumerate(probes):
        rows[k * 9_999 // (len(probes) - 1)] |= {key: x for key, x in probe.items() if key.startswith(("probe", "uns"))}
    records.write_coverage(run, 9_999, coverage({0.5: 640_000}, {f"slide{k}.svs": k + 1 for k in range(300)}))
    shutil.rmtree(run / "probes")
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return run
