import pytest

from pathssl.bench import benchmark_slide
from pathssl.bench.benchmark_slide import Settings

SMALL = Settings(side_px=2048, levels=(1, 4))


@pytest.fixture(scope="session")
def small_slide(tmp_path_factory):
    """(a small benchmark slide from the synthetic cohort, what it is, the folder that it is kept in)."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benchmark_slide, "REAL_TISSUE", cache / "none")
        patch.setattr(benchmark_slide, "_SYNTHETIC_PX", 640)
        return *benchmark_slide.benchmark_slide(cache, None, SMALL), cache
