import json
import shutil
from pathlib import Path

import pytest
from fake_study import ACCURACY, DEMO, write_study

from pathssl import probe_records, records
from pathssl.errors import UserError
from pathssl.identity import arm_name
from pathssl.report.study import read_study


def test_a_study_reads_the_question_from_its_runs_and_puts_the_baseline_first(tmp_path):
    arms = {"teacher=m0.5": 0.0, "teacher=m0.9": 0.0, "teacher=m0.99": 0.0}
    study = read_study(write_study(tmp_path / "demo", arms, seeds=1, report=DEMO))
    assert (study.name, study.question, study.primary) == ("demo", DEMO["question"], ACCURACY)
    assert study.arms == ["teacher=m0.9", "teacher=m0.5", "teacher=m0.99"]
    assert study.metrics == DEMO["metrics"]
    assert study.notices == []


def test_the_baseline_is_found_though_more_was_typed_for_all_arms_alike(tmp_path):
    arms = {f"batch=b8,teacher=m0.{k}": 0.0 for k in (5, 9, 99)}
    study = read_study(write_study(tmp_path / "demo", arms, seeds=1, report=DEMO))
    assert study.baseline == "batch=b8,teacher=m0.9" and study.notices == []
    arms = {"batch=b8,teacher=m0.9": 0.0, "batch=b16,teacher=m0.9": 0.0}  # which of them is meant is not known
    study = read_study(write_study(tmp_path / "two", arms, seeds=1, report=DEMO))
    assert "The baseline teacher=m0.9 may be any of batch=b8,teacher=m0.9, batch=b16,teacher=m0.9;" in study.notices[0]


@pytest.mark.parametrize(
    "factor", ["augmentation.hed", "schedule.warmup"]
)  # sorted before and after what all arms share
def test_the_baseline_is_found_though_names_end_in_a_hash(factor, tmp_path):
    shared = ["data=folder", "data.path=/slides"]  # of which a folder's name may not have the slash
    arms = {arm_name([*shared, f"{factor}=0.{k}"]): 0.0 for k in (0, 1, 2)}
    asked = DEMO | {"baseline": f"{factor}=0.1"}
    study = read_study(write_study(tmp_path / "demo", arms, seeds=1, report=asked))
    assert study.baseline == arm_name([*shared, f"{factor}=0.1"]) and study.notices == []


def test_the_baseline_is_found_while_it_is_the_only_arm(tmp_path):
    study = read_study(write_study(tmp_path / "demo", {"model=vits8,teacher=m0.9": 0.0}, seeds=1, report=DEMO))
    assert study.baseline == "model=vits8,teacher=m0.9" and study.notices == []


@pytest.mark.parametrize("key", ["primary", "family"])
def test_a_misspelt_metric_that_the_verdict_should_be_of_is_said(key, tmp_path):
    misspelt = ACCURACY.replace("synthetic", "sythetic")
    asked = DEMO | {"question": "Does it?", key: misspelt if key == "primary" else [misspelt]}
    study = read_study(write_study(tmp_path / "demo", {"teacher=m0.9": 0.0}, seeds=1, report=asked))
    assert study.primary == ACCURACY and study.notices == [f"Asked for, but measured in no run: {misspelt}."]


def test_where_other_tasks_are_probed_than_the_scale_s_metrics_name_those_are_compared(tmp_path):
    """As in `scale=tiny data=folder task=[folder]`: RankMe, which every run has, is not what such a run is judged by."""
    of_scale = {"primary": "probe/bach/linear/val/balanced_accuracy"}
    of_scale["metrics"] = [of_scale["primary"], "unsupervised/rankme"]
    study = read_study(write_study(tmp_path / "scratch", {"default": 0.0}, seeds=1, report=of_scale))
    assert study.primary == study.metrics[0] == ACCURACY and study.family == [ACCURACY] and study.notices == []
    asked = of_scale | {"question": "Does it?"}
    study = read_study(write_study(tmp_path / "study", {"default": 0.0}, seeds=1, report=asked))
    assert study.primary == ACCURACY and of_scale["primary"] in " ".join(study.notices)


def test_without_an_experiment_file_sensible_metrics_are_chosen_and_the_choice_of_baseline_is_said(tmp_path):
    study = read_study(write_study(tmp_path / "scratch", {"batch=b64": 0.0, "batch=b8": 0.0}, seeds=1))
    assert study.metrics == [
        ACCURACY,
        "probe/synthetic/knn/test/balanced_accuracy",
        "unsupervised/rankme",
        "unsupervised/odcorr",
    ]
    assert study.baseline == "batch=b8"
    assert "batch=b8" in study.notices[0]


def test_what_was_asked_for_but_is_missing_is_said(tmp_path):
    asked = DEMO | {"baseline": "teacher=m0", "metrics": [ACCURACY, "probe/bach/knn/test/auroc"]}
    study = read_study(write_study(tmp_path / "demo", {"teacher=m0.9": 0.0}, seeds=1, report=asked))
    assert study.metrics == [ACCURACY]
    assert [word in " ".join(study.notices) for word in ("teacher=m0 ", "probe/bach/knn/test/auroc")] == [True, True]


def test_series_hold_probe_files_and_leave_out_nulls(tmp_path):
    folder = write_study(tmp_path / "demo", {"default": 0.0}, seeds=1, lines=4, checkpoints=1)
    run = folder / "default/seed0"
    probe_records.write_probe(run, step=20, patches_seen=1280, task="synthetic", results={"knn/test/auroc": 0.75})
    records.append_metrics(run, {"step": 25, "patches_seen": 1600, "train/loss": float("nan")})
    [read] = read_study(folder).runs
    assert read.series["probe/synthetic/knn/test/auroc"].at(1280) == 0.75
    assert read.series["probe/synthetic/knn/test/auroc"].at(0) is None
    assert read.series["train/loss"].patches.tolist() == [320, 640, 960, 1280]
    assert read.probed == [0, 1280]


def test_runs_from_two_commits_are_noticed(tmp_path):
    folder = write_study(tmp_path / "demo", {"default": 0.0}, seeds=2)
    for seed in (0, 1):
        (folder / f"default/seed{seed}/environment.json").write_text(json.dumps({"commit": f"abc{seed}"}))
    assert "2 commits" in read_study(folder).notices[0]


def test_one_arm_and_one_run_are_studies_too(tmp_path):
    folder = write_study(tmp_path / "demo", {"a=1": 0.0, "a=2": 0.0}, seeds=2)
    assert len(read_study(folder / "a=1").runs) == 2
    assert [run.seed for run in read_study(folder / "a=1/seed1").runs] == [1]


def test_a_folder_without_runs_is_refused_in_a_sentence(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        read_study(tmp_path / "nowhere")
    with pytest.raises(UserError, match="There are no runs"):
        read_study(tmp_path)
    write_study(tmp_path / "demo", {"default": 0.0}, seeds=1)
    with pytest.raises(UserError, match=r"several studies \(demo\)"):
        read_study(tmp_path)


def test_who_gives_a_folder_that_is_no_study_is_told_what_one_is_and_which_there_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("seed: 0")  # no run's, whose folder is called seed<k>
    for given, said in (("conf", "There are no runs in conf."), ("outputs/dmo", "There is no folder outputs/dmo.")):
        with pytest.raises(UserError) as refused:
            read_study(Path(given))
        assert str(refused.value) == (
            f"{said} A study is a folder that holds its runs as <arm>/seed<k>/, each with a config.yaml in it, such as outputs/demo. "
            "There is none under outputs/ here; `python train.py experiment=demo -m` makes one."
        )
    for k in range(10):
        run = tmp_path / "outputs" / f"study{k}" / "default" / "seed0"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("seed: 0")
    (tmp_path / "outputs" / "empty").mkdir()
    with pytest.raises(UserError, match=r"Here there are outputs/study0, .*, outputs/study7 and 2 more\.$"):
        read_study(Path("conf"))


def test_a_config_that_is_not_yaml_is_named(tmp_path):
    folder = write_study(tmp_path / "demo", {"default": 0.0}, seeds=1)
    (folder / "default/seed0/config.yaml").write_text("a: [")
    with pytest.raises(UserError, match=r"seed0/config\.yaml is not YAML"):
        read_study(folder)


def test_a_run_of_which_only_the_config_exists_is_not_started(tmp_path):
    folder = write_study(tmp_path / "demo", {"default": 0.0}, seeds=1)
    run = folder / "default/seed0"
    for path in run.iterdir():
        if path.name != "config.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    [read] = read_study(folder).runs
    assert (read.state, read.series, read.probed) == ("not started", {}, [])
