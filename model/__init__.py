"""The network of InstructUE: its training, its probe, its release and its runtime.

`from model import load` opens a release without torch: numpy, pyarrow, onnxruntime, tokenizers and
safetensors.
"""

from typing import Any

__all__ = ["load"]


def __getattr__(name: str) -> Any:
    # Lazy, so that `import model` costs nothing to a DAG, a Spark worker or a trainer that never serves.
    if name == "load":
        from model.serving.onnx_runtime import load

        return load
    raise AttributeError(f"module 'model' has no attribute {name!r}")
