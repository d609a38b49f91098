"""Optuna's own contract tests, on our storage and our sampler: who knows Optuna finds nothing else here."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


@contextmanager
def opened(url: str) -> Iterator[PlainStorage]:
    """One for all contract tests of a database: to open a storage takes longer than most of them."""
    optuna_study.quiet()
    database.connect(url).dispose()  # a file writes ahead from then on, as in a search
    with optuna_storage.open_storage(url) as storage:
        assert type(storage) is FastStorage
        yield storage


@pytest.fixture(scope="module")
def in_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainStorage]:
    with opened(f"sqlite:///{tmp_path_factory.mktemp('contracts') / 'store.db'}") as storage:
        yield storage


@pytest.fixture(scope="module")
def on_server(postgres: Postgres) -> Iterator[PlainStorage]:
    name = f"contracts_{uuid4().hex}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    with opened(postgres.url(name)) as storage:
        yield storage


class TestStorage(StorageTestCase):
    @pytest.fixture(
        params=[
            "in_file",
            pytest.param("on_server", marks=pytest.mark.thorough),
            pytest.param("behind the cache", marks=pytest.mark.thorough),
        ]
    )
    def storage(self, request: pytest.FixtureRequest) -> Iterator[BaseStorage]:
        cached = request.param == "behind the cache"
        storage: PlainStorage = request.getfixturevalue("in_file" if cached else request.param)
        for study in storage.get_all_studies():
            storage.delete_study(study._study_id)
        yield _CachedStorage(storage) if cached else storage
        if "pickle" in request.node.name:
            # Nobody closes the copy. Collected later, it fails whichever test runs then.
            gc.collect()


class Sampler:
    @pytest.fixture
    def sampler(self) -> Callable[[], optuna.samplers.BaseSampler]:
        return lambda: CachedTPESampler(seed=0, n_startup_trials=0)


class TestSampler(Sampler, BasicSamplerTestCase):
    pass


class TestRelativeSampler(Sampler, RelativeSamplerTestCase):
    pass
