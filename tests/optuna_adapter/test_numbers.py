"""Optuna's trial number and its rows in one message to PostgreSQL."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import Engine, event, text

from search.optuna_adapter import storage as optuna_storage, study as optuna_study
from search.optuna_adapter.plain_storage import PlainStorage
from storage import database

ODD = 'it\'s 100% \\ of "ünï"; %s %(x)s\n{}'  # what a statement's text must not trip over


def running(**attributes: Any) -> FrozenTrial:
    return create_trial(
        state=TrialState.RUNNING,
        params={ODD: ODD, "rate": 0.1},
        distributions={
            ODD: CategoricalDistribution([ODD, "b"]),
            "rate": FloatDistribution(1e-5, 1, log=True),
        },
        user_attrs={ODD: ODD, **attributes},
    )


@pytest.fixture
def engine_of_ledger(postgres_url: str) -> Iterator[Engine]:
    optuna_study.quiet()
    engine = database.connect(postgres_url, few=True)
    yield engine
    engine.dispose()


@pytest.fixture
def storage(postgres_url: str, engine_of_ledger: Engine) -> Iterator[PlainStorage]:
    with optuna_storage.open_storage(postgres_url, ledger=engine_of_ledger) as opened:
        yield opened


def test_a_trial_is_stored_as_optuna_reads_it_whatever_its_texts_hold(
    storage: PlainStorage, postgres_url: str
) -> None:
    study = optuna.create_study(storage=storage)
    template = running(size=3)
    number = storage.create_new_trial(study._study_id, template)
    theirs = optuna.storages.RDBStorage(
        database.normalise(postgres_url), engine_kwargs=database.engine_options(postgres_url)
    )
    (found,) = theirs.get_all_trials(study._study_id)
    theirs.remove_session()
    theirs.engine.dispose()
    assert (found._trial_id, found.number, found.state) == (number, 0, TrialState.RUNNING)
    assert (found.params, found.distributions) == (template.params, template.distributions)
    assert found.user_attrs == template.user_attrs
    assert found.datetime_start == template.datetime_start


def test_number_and_rows_are_one_statement(storage: PlainStorage) -> None:
    """So that nobody else's trial waits for this process between lock and commit."""
    study = optuna.create_study(storage=storage)
    storage.create_new_trial(study._study_id, running())  # its ranges are known from now on
    said: list[str] = []
    event.listen(storage.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    event.listen(storage.engine, "commit", lambda _: said.append("commit"))
    storage.create_new_trial(study._study_id, running())
    assert [line.split()[0] for line in said if line != "commit"] == ["SELECT"]
    assert "FOR NO KEY UPDATE" in said[0] and "INSERT INTO trial_params" in said[0]
    assert len(storage.get_all_trials(study._study_id)) == 2


def test_trials_that_many_store_at_once_have_every_number_once(
    storage: PlainStorage, postgres_url: str
) -> None:
    study_id = optuna.create_study(storage=storage)._study_id
    with (
        optuna_storage.open_storage(postgres_url) as second,
        optuna_storage.open_storage(postgres_url) as third,
        ThreadPoolExecutor(6) as threads,
    ):
        stores = [storage, second, third] * 10
        ids = list(threads.map(lambda one: one.create_new_trial(study_id, running()), stores))
    found = storage.get_all_trials(study_id)
    assert sorted(trial.number for trial in found) == list(range(30))
    assert sorted(ids) == [trial._trial_id for trial in found]  # numbers go up with ids, as Optuna's do
    assert [trial.number for trial in found] == list(range(30))


def test_a_study_that_is_not_there_is_a_key_error_and_stores_nothing(storage: PlainStorage) -> None:
    with pytest.raises(KeyError):
        storage.create_new_trial(77, running())
    with storage.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM trials")).scalar_one() == 0


def test_the_connection_has_transactions_again_afterwards(
    storage: PlainStorage, engine_of_ledger: Engine
) -> None:
    study = optuna.create_study(storage=storage)
    storage.create_new_trial(study._study_id, running())
    with engine_of_ledger.connect() as connection:
        connection.execute(text("DELETE FROM trial_params"))
        connection.rollback()
    assert storage.get_all_trials(study._study_id)[0].params == running().params
