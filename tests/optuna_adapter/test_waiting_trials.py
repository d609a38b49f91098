"""Trials that wait in a SQLite file, as baselines do: each is taken by one worker."""

import threading
from pathlib import Path

import optuna
from optuna.trial import TrialState

from search.optuna_adapter import storage as optuna_storage


def test_two_workers_never_take_the_same_waiting_trial(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 's.db'}"
    with optuna_storage.open_storage(url) as one, optuna_storage.open_storage(url) as other:
        study = optuna.create_study(storage=one)
        for _ in range(30):
            study.enqueue_trial({})
        waiting = [trial._trial_id for trial in study.get_trials(states=(TrialState.WAITING,))]
        taken: list[int] = []
        together = threading.Barrier(2)

        def take(storage: optuna.storages.RDBStorage) -> None:
            for trial in waiting:
                together.wait(60)
                if storage.set_trial_state_values(trial, TrialState.RUNNING):
                    taken.append(trial)

        threads = [threading.Thread(target=take, args=(storage,)) for storage in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(taken) == waiting
