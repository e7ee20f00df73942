"""Lakes that several files of tests begin with."""

import pytest

from jobs.deployment import Deployment
from tests.jobs import embedded
from tests.jobs.history import History


@pytest.fixture(scope="session")
def published(spark, tmp_path_factory) -> Deployment:
    """Three days of made-up embeddings, published; a test that changes it takes `embedded.copy`."""
    return embedded.make(spark, tmp_path_factory.mktemp("published"))


@pytest.fixture
def history(spark, tmp_path) -> History:
    """A lake of messy rows, nothing assembled yet."""
    return History(spark, tmp_path)
