"""The runtime: a user's vector depends on the user and the scenario alone, and needs no torch."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from model import load
from model.serving.onnx_runtime import VectorError
from model.serving.release import ReleaseError
from model.serving.text_vectors import TextVectors
from tests.support.made_up import made_up_profiles

ROOT = Path(__file__).parents[3]


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.einsum("ukh,ukh->uk", one, other)


@pytest.fixture(scope="module")
def runtime(exported):
    return load(exported.release.path, threads=1)


@pytest.fixture(scope="module")
def profiles() -> pa.Table:
    """Enough users, of lengths unlike enough, for several batches."""
    return pa.concat_tables([made_up_profiles(60, seed=1), made_up_profiles(60, seed=2, events=3, searches=1)])


@pytest.fixture(scope="module")
def vectors(runtime, profiles) -> np.ndarray:
    return runtime.embed(profiles)


def test_one_unit_vector_for_each_user_and_scenario(runtime, profiles, vectors):
    assert vectors.shape == (120, 3, runtime.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    same = cosines(vectors[:, :1], vectors[:, 1:2])
    assert same.max() < 0.9999, "a scenario's vector is the universal one"


def test_the_order_of_users_is_the_callers(runtime, profiles, vectors):
    order = np.random.default_rng(0).permutation(len(profiles))
    assert cosines(runtime.embed(profiles.take(order)), vectors[order]).min() > 0.99999


def test_a_user_alone_has_the_vector_of_a_user_in_company(runtime, profiles, vectors):
    for user in (0, 1, 2, 60, 119):
        assert cosines(runtime.embed(profiles.slice(user, 1)), vectors[user : user + 1]).min() > 0.99999


def test_scenarios_come_as_asked(runtime, profiles, vectors):
    chosen = runtime.embed(profiles, ["films", "universal"])
    assert cosines(chosen, vectors[:, [2, 0]]).min() > 0.99999


def test_a_table_in_several_chunks_is_one_table(runtime, profiles, vectors):
    chunked = pa.concat_tables([profiles.slice(0, 7), profiles.slice(7)])
    assert cosines(runtime.embed(chunked), vectors).min() > 0.99999


def test_the_cache_changes_no_vector(exported, profiles, vectors):
    for size in (0, 5, 10_000):
        runtime = load(exported.release.path, threads=1, cached_texts=size)
        for _ in range(2):
            assert cosines(runtime.embed(profiles), vectors).min() > 0.99999


def test_no_user_or_no_scenario_is_no_vector(runtime, profiles):
    assert runtime.embed(profiles.slice(0, 0)).shape == (0, 3, runtime.width)
    assert runtime.embed(profiles, []).shape == (120, 0, runtime.width)


def test_an_unknown_scenario_is_refused_with_those_known(runtime, profiles):
    with pytest.raises(ReleaseError, match=r"'fod'.*universal, food, films"):
        runtime.embed(profiles, ["food", "fod"])


def test_a_user_who_ended_is_refused(runtime, profiles):
    hashes = pa.array(["a", None] + ["b"] * 118)
    ended = profiles.set_column(profiles.column_names.index("profile_hash"), "profile_hash", hashes)
    with pytest.raises(VectorError, match="1 of 120"):
        runtime.embed(ended)


def test_a_provider_that_this_build_lacks_is_refused(exported):
    with pytest.raises(ReleaseError, match="no AbacusExecutionProvider"):
        load(exported.release.path, providers=["AbacusExecutionProvider"])


def test_a_provider_that_this_machine_cannot_use_is_refused(exported, capfd):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("a build without CUDA")
    if shutil.which("nvidia-smi"):
        pytest.skip("a machine with a GPU")
    with pytest.raises(ReleaseError, match="asked for CUDAExecutionProvider, onnxruntime uses CPUExecutionProvider"):
        load(exported.release.path, providers=["CUDAExecutionProvider"])
    assert capfd.readouterr() == ("", "")


def test_a_changed_graph_is_refused_on_loading(exported, tmp_path):
    for file in exported.release.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    graph = tmp_path / "user.onnx"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)
    with pytest.raises(ReleaseError, match=r"user\.onnx was changed"):
        load(tmp_path)


def test_serving_imports_no_torch(exported, profiles, vectors, tmp_path):
    """A worker in which importing torch fails gives the same vectors."""
    pq.write_table(profiles, tmp_path / "profiles.parquet")
    script = (
        "import sys\nfor name in ('torch', 'transformers', 'pyspark', 'sklearn'): sys.modules[name] = None\n"
        "import numpy as np, pyarrow.parquet as pq\nfrom model import load\n"
        "vectors = load(sys.argv[1], threads=1).embed(pq.read_table(sys.argv[2]))\nnp.save(sys.argv[3], vectors)"
    )
    subprocess.run(
        [sys.executable, "-c", script, exported.release.path, tmp_path / "profiles.parquet", tmp_path / "vectors.npy"],
        check=True,
        cwd=ROOT,
    )
    assert cosines(np.load(tmp_path / "vectors.npy"), vectors).min() > 0.99999


def test_text_vectors_keep_those_read_last():
    cache = TextVectors(2, 1)
    cache.put(["a", "b"], np.array([[1.0], [2.0]], np.float32))
    vectors, missing = cache.get(["a", "c"])
    np.testing.assert_array_equal(vectors, [[1.0], [0.0]])
    np.testing.assert_array_equal(missing, [1])
    cache.put(["c"], np.array([[3.0]], np.float32))
    vectors, missing = cache.get(["a", "b", "c"])
    np.testing.assert_array_equal(vectors, [[1.0], [0.0], [3.0]])
    np.testing.assert_array_equal(missing, [1])
    cache.put(["d", "e", "f"], np.array([[4.0], [5.0], [6.0]], np.float32))
    assert len(cache) == 2
