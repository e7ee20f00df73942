"""SHA-256 of files, JSON values and instruction vectors."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np


def hash_file(path: Path) -> str:
    """Return the hash of a file, which is read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Return the hash of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_vectors(vectors: np.ndarray) -> str:
    """Return the hash of instruction vectors: of their shape and their little-endian float32 bytes."""
    vectors = np.ascontiguousarray(vectors, "<f4")
    return hashlib.sha256(f"{vectors.shape}".encode() + vectors.tobytes()).hexdigest()
