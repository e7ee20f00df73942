"""One published lake for the tests that only read it."""

import pytest

from jobs.deployment import Deployment
from tests.jobs import embedded


@pytest.fixture(scope="session")
def published(spark, tmp_path_factory) -> Deployment:
    """Three days of made-up embeddings, published; a test that changes it takes `embedded.copy`."""
    return embedded.make(spark, tmp_path_factory.mktemp("published"))
