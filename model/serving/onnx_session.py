"""Open an ONNX graph on the required execution provider, and on no other."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from model.serving.release import ReleaseError

CPU = "CPUExecutionProvider"


def open_session(
    path: Path, providers: Sequence[str] = (CPU,), threads: int | None = None
) -> onnxruntime.InferenceSession:
    """Return an open graph on the first of the providers.

    Parameters
    ----------
    path : Path
        The graph's file.
    providers : sequence of str
        onnxruntime's execution providers; the first must be the one in use.
    threads : int, optional
        Threads of a forward pass; None: one for each core.

    Raises
    ------
    ReleaseError
        The graph cannot be opened, or the first provider cannot be used; onnxruntime itself would use the CPU.
    """
    available = onnxruntime.get_available_providers()
    unknown = [provider for provider in providers if provider not in available]
    if unknown or not providers:
        raise ReleaseError(
            f"model.providers: this onnxruntime has no {', '.join(unknown) or 'provider to use'}; "
            f"use {', '.join(available)}, or install the build that has it"
        )
    output = io.StringIO()
    if providers[0] == "CUDAExecutionProvider":
        onnxruntime.set_default_logger_severity(4)  # the error below says what it would print
        with contextlib.redirect_stdout(output):
            onnxruntime.preload_dlls(directory="")  # CUDA's libraries from their wheels, no torch having loaded them
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # shapes differ from batch to batch
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(path, options, providers=list(providers))
    except Exception as error:  # onnxruntime's kinds of errors share no other
        words = re.sub(r"/onnxruntime_src/.*\) ", " ", str(error)).strip()  # where in its source, and in which function
        raise ReleaseError(
            f"onnxruntime {onnxruntime.__version__} cannot open {path} ({words}); install the version "
            "that the release was made with, or export again"
        ) from error
    used = session.get_providers()[0]
    if used != providers[0]:
        raise ReleaseError(
            f"model.providers: asked for {providers[0]}, onnxruntime uses {used}; repair the driver and "
            f"libraries that {providers[0]} needs, or ask for {used}\n{output.getvalue()}".rstrip()
        )
    return session
