"""The floor plan: a module imports only from lower floors or from its own room, and there are no circles."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {
    "errors": 0,  # the ground itself
    **dict.fromkeys(["files", "seeding", "worker", "devices", "metric_keys"], 0.5),
    **dict.fromkeys(
        [
            "allotment",
            "budget",
            "schedules",
            "records",
            "replaced",
            "flops",
            "determinism",
            "distributed",
            "environment",
            "metrics",
        ],
        1,
    ),
    "probe_records": 1.5,
    **dict.fromkeys(["slides", "augment", "models", "report"], 2),
    **dict.fromkeys(["data", "objectives"], 3),
    **dict.fromkeys(["probes"], 4),
    **dict.fromkeys(["training", "leakage"], 5),
    **dict.fromkeys(
        [
            "identity",
            "compute",
            "checks",
            "make",
            "sources",
            "lifecycle",
            "parts",
            "pictures",
            "run",
            "probe_process",
            "probe_settings",
        ],
        6,
    ),
    **dict.fromkeys(
        [
            "complaints",
            "gallery",
            "replay",
            "replay_album",
            "replay_capsule",
            "export",
            "eva_config",
            "probe_runs",
            "leaks",
            "late_probes",
        ],
        6,
    ),
    **dict.fromkeys(["launch", "bench", "doctor"], 7),
    **dict.fromkeys(["cli", "compose", "probe_verbs", "__main__"], 8),
}


def _imports(path: Path) -> set[str]:
    """The modules of pathssl that a file imports, as dotted names below pathssl."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("pathssl.") for name in found if name.startswith("pathssl.")}


FILES = sorted(path for path in (ROOT / "pathssl").rglob("*.py") if path != ROOT / "pathssl" / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_or_stay_in_the_room(path):
    room = path.relative_to(ROOT / "pathssl").with_suffix("").parts[0]
    for name in _imports(path):
        other = name.split(".")[0]
        inside = room == other and (ROOT / "pathssl" / room).is_dir()
        beside = FLOORS[room] in (6, 8) and FLOORS[other] == FLOORS[room]
        assert inside or beside or FLOORS[other] < FLOORS[room], (
            f"{room} (F{FLOORS[room]}) imports {name} (F{FLOORS[other]})"
        )


def test_there_are_no_circles():
    modules = {
        ".".join(path.relative_to(ROOT / "pathssl").with_suffix("").parts).removesuffix(".__init__"): path
        for path in FILES
    }
    uses = {
        module: {name if name in modules else name.rpartition(".")[0] for name in _imports(path)} - {module}
        for module, path in modules.items()
    }
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in finished:
            for used in uses.get(module, ()):
                # A room's __init__ only gathers the room's names.
                if not (used in module or module in used):
                    visit(used, (*path, module))
            finished.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize(
    "module", ["pathssl.report", "pathssl.data.loader", "pathssl.slides.index", "pathssl.metrics", "pathssl.cli"]
)
def test_these_rooms_need_no_torch(module):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
