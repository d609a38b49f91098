"""What a person does to a study in optuna-dashboard, while whoever works at it does not know."""

import optuna

from search.optuna_adapter import study as optuna_study


def delete(url: str, name: str) -> None:
    with optuna_study.open_storage(url) as storage:
        optuna.delete_study(study_name=name, storage=storage)


def rename(url: str, old: str, new: str) -> None:
    """As optuna-dashboard does: by a copy under the new name, after which the old one is deleted."""
    with optuna_study.open_storage(url) as storage:
        source = optuna.load_study(study_name=old, storage=storage)
        copy = optuna.create_study(study_name=new, storage=storage, directions=source.directions)
        copy.add_trials(source.get_trials(deepcopy=False))
        for key, value in source.user_attrs.items():
            copy.set_user_attr(key, value)
        optuna.delete_study(study_name=old, storage=storage)
