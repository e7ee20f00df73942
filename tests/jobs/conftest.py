"""Lakes that several files of tests begin with."""

import pyarrow as pa
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


@pytest.fixture(scope="module")
def made() -> pa.Table:
    """Profiles of the company that evaluations over seeds are tried on."""
    from tests.jobs import studied  # torch and transformers: not for those who ask for no study

    return studied.profiles()


@pytest.fixture(scope="module")
def shopped(tmp_path_factory, made) -> Deployment:
    """A company with training tables, profiles and labels of two scenarios, and no release."""
    from tests.jobs import studied

    return studied.make(tmp_path_factory.mktemp("studied"), made)
