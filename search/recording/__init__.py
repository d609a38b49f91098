"""The rows of one trial in the ledger and in Optuna's tables: outages, spool, recovery, reconciliation."""
