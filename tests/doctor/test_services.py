import time

import pytest

from pathssl.doctor import services


def test_without_sbatch_runs_go_through_the_local_queue(programs):
    programs()
    assert services.slurm().state == "absent" and "local queue" in services.slurm().found


def test_a_controller_that_hangs_is_left_after_the_limit(programs, monkeypatch):
    programs(sbatch="", scontrol="sleep 60 & sleep 60")
    monkeypatch.setattr(services, "_SLURM_LIMIT_S", 0.3)
    since = time.monotonic()
    found = services.slurm()
    assert found.state == "broken" and "no answer in 0.3 s" in found.found and time.monotonic() - since < 10


def test_partitions_are_listed_where_slurm_answers(programs):
    programs(sbatch="", scontrol="echo UP", sinfo="echo 'gpu* 4 gpu:h100:8'; echo 'cpu 10 (null)'")
    found = services.slurm()
    assert found.state == "ok" and "gpu* (4 nodes, gpu:h100:8), cpu (10 nodes, no GPU)" in found.found
    programs(sinfo="exit 0")
    assert services.slurm().state == "warning"


@pytest.fixture
def nobody(tmp_path, monkeypatch):
    """A home without W&B's key, and no proxy."""
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_wandb_without_an_account_matters_only_to_those_who_asked_for_it(nobody):
    assert services.wandb(None).state == "absent" and services.wandb({"mode": "offline"}).state == "ok"
    found = services.wandb({"mode": "online"})
    assert found.state == "warning" and "wandb login" in found.remedy and "wandb_offline" in found.remedy
    nobody.write_text("machine api.wandb.ai\n login user\n password 0123456789secret\n")
    assert services.wandb(None).state == "ok" and "secret" not in str(services.wandb(None))
    nobody.write_text("machine machine machine")  # no netrc at all
    assert services.wandb(None).state == "absent"


@pytest.mark.usefixtures("nobody")
def test_wandb_that_cannot_be_reached_is_a_warning_that_never_says_the_key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1")
    monkeypatch.setattr(services, "_connect", lambda _: time.sleep(30))
    monkeypatch.setattr(services, "_NETWORK_LIMIT_S", 0.2)
    found = services.wandb({"mode": "online"})
    assert found.state == "warning" and "127.0.0.1 cannot be reached" in found.found and "secret" not in str(found)
    assert "wandb_offline" in found.remedy


@pytest.mark.usefixtures("nobody")
def test_a_proxy_is_what_is_connected_to(monkeypatch):
    asked = []

    class Connection:
        def __init__(self, to, **_):
            asked.append(to)

        def close(self):
            pass

    monkeypatch.setattr(services.socket, "create_connection", Connection)
    services._connect("api.wandb.ai")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    services._connect("api.wandb.ai")
    assert asked == [("api.wandb.ai", 443), ("proxy", 3128)]


def test_disks_are_tried_where_the_folder_would_be_made_and_nothing_stays(tmp_path, monkeypatch):
    found = services.disk("output_dir", tmp_path / "not" / "there")
    assert found.state == "ok" and "not there yet" in found.found and not list(tmp_path.iterdir())
    monkeypatch.setattr(services, "_LITTLE_DISK_BYTES", 1e18)
    assert services.disk("output_dir", tmp_path).state == "warning"


def test_a_disk_without_locks_or_permission_is_broken(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    assert services.disk("cache_dir", tmp_path / "file").state == "broken"
    monkeypatch.setattr(services, "_locks", lambda _: False)
    found = services.disk("cache_dir", tmp_path)
    assert found.state == "broken" and "keeps nobody out" in found.found and "NFS" in found.remedy

    def refused(_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(services, "_locks", refused)
    assert "No locks available" in services.disk("cache_dir", tmp_path).found
    monkeypatch.setattr(services, "_locks", lambda _: time.sleep(30))
    monkeypatch.setattr(services, "_DISK_LIMIT_S", 0.2)
    assert "hangs" in services.disk("cache_dir", tmp_path).found
