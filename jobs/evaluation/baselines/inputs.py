"""The inputs that every baseline gets: training profiles, labelled profiles and the network's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from jobs.config.deployment import Deployment
from jobs.evaluation.baselines.hand_made import Features, deployment_features
from jobs.evaluation.labelled_data import EvaluationError
from model.data.config import NetworkConfig
from model.data.rendering import render

LIFESTREAM_PYTHON = Path("build/lifestream/bin/python")
"""The interpreter of an environment with pytorch-lifestream."""


class BaselineError(EvaluationError):
    """A baseline that cannot run: a model or an environment is missing, or its program failed."""


@dataclass(frozen=True, kw_only=True)
class BaselineOptions:
    """Models and environments of the baselines.

    Attributes
    ----------
    language_model : str, optional
        The folder or hub id of a pretrained causal language model; None leaves that baseline out.
    text_embedder : str, optional
        The folder of a text embedder; None: MiniLM.
    lifestream : Path
        The interpreter of an environment with pytorch-lifestream.
    """

    language_model: str | None = None
    text_embedder: str | None = None
    lifestream: Path = LIFESTREAM_PYTHON


@dataclass(frozen=True, kw_only=True)
class BaselineInputs:
    """The profiles that a baseline is trained on and those that it embeds.

    Attributes
    ----------
    config : NetworkConfig
        The deployment's sources and tabular columns, without statistics.
    training : pa.Table
        Rows of `training_profiles` at the cut-offs before every label's as_of.
    profiles : pa.Table
        The labelled users' rows of `user_profiles`.
    """

    deployment: Deployment
    config: NetworkConfig
    training: pa.Table
    profiles: pa.Table
    options: BaselineOptions = field(default_factory=BaselineOptions)

    @cached_property
    def hand_made(self) -> Features:
        """Return the hand-made features of the labelled profiles."""
        return deployment_features(self.deployment, self.profiles)

    @cached_property
    def training_texts(self) -> list[str]:
        """Return the training profiles rendered as text."""
        return render(self.training, self.config)

    @cached_property
    def texts(self) -> list[str]:
        """Return the labelled profiles rendered as text."""
        return render(self.profiles, self.config)
