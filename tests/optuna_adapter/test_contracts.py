"""Optuna's own contract tests, on our storage and our sampler: who knows Optuna finds nothing else here."""

from collections.abc import Callable, Iterator
from uuid import uuid4

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
from search.optuna_adapter.plain_storage import PlainStorage
from storage import database

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs: they ask for what is deprecated or experimental


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def opened(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PlainStorage]:
    """One for all contract tests: to open a storage takes longer than most of them."""
    optuna_study.quiet()
    url = f"sqlite:///{tmp_path_factory.mktemp('contracts') / 'store.db'}"
    if request.param == "postgres":
        server: Postgres = request.getfixturevalue("postgres")
        name = f"contracts_{uuid4().hex}"
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        url = server.url(name)
    database.connect(url).dispose()  # a file writes ahead from then on, as in a search
    with optuna_storage.open_storage(url) as storage:
        assert type(storage) is FastStorage
        yield storage


class TestStorage(StorageTestCase):
    @pytest.fixture(params=["plain", "behind the cache"])
    def storage(self, request: pytest.FixtureRequest, opened: PlainStorage) -> BaseStorage:
        for study in opened.get_all_studies():
            opened.delete_study(study._study_id)
        return opened if request.param == "plain" else _CachedStorage(opened)


class Sampler:
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: CachedTPESampler(seed=0, n_startup_trials=0)


class TestSampler(Sampler, BasicSamplerTestCase):
    pass


class TestRelativeSampler(Sampler, RelativeSamplerTestCase):
    pass
