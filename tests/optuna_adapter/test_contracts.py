"""Optuna's own contract tests, on our storage and our sampler: who knows Optuna finds nothing else here."""

from collections.abc import Callable, Iterator

import optuna
import psycopg
import pytest
from optuna.storages import BaseStorage
from optuna.storages._cached_storage import _CachedStorage
from optuna.testing.pytest_samplers import BasicSamplerTestCase, RelativeSamplerTestCase
from optuna.testing.pytest_storages import StorageTestCase
from postgres_server import Postgres

from search.optuna_adapter import storage as optuna_storage, study as optuna_study
from search.optuna_adapter.cached_tpe import CachedTPESampler
from search.optuna_adapter.fast_storage import FastStorage

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs: they ask for what is deprecated or experimental


@pytest.fixture(scope="session")
def emptied_postgres(postgres: Postgres) -> str:
    """One database for all contract tests: making 13 tables for each would take longer than the tests."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE contracts")
    return postgres.url("contracts")


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database that holds Optuna's tables and no study."""
    optuna_study.quiet()
    if request.param == "postgres":
        url: str = request.getfixturevalue("emptied_postgres")
    else:
        url = f"sqlite:///{tmp_path_factory.getbasetemp() / 'contracts.db'}"
    with optuna_storage.open_storage(url) as storage:
        for study in storage.get_all_studies():
            storage.delete_study(study._study_id)
    return url


class TestStorage(StorageTestCase):
    @pytest.fixture(params=["plain", "behind the cache"])
    def storage(self, request: pytest.FixtureRequest, empty_url: str) -> Iterator[BaseStorage]:
        with optuna_storage.open_storage(empty_url) as storage:
            assert type(storage) is FastStorage
            yield storage if request.param == "plain" else _CachedStorage(storage)


class Sampler:
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: CachedTPESampler(seed=0, n_startup_trials=0)


class TestSampler(Sampler, BasicSamplerTestCase):
    pass


class TestRelativeSampler(Sampler, RelativeSamplerTestCase):
    pass
