"""The ledger in a database: studies, candidates, epochs, leases, trainings. Knows no optuna, no torch.

Beside the errors that they name, all functions that take an engine or a connection raise SQLAlchemy's
DBAPIError where the database fails them; storage.database.translated makes a StorageError of it.
"""
