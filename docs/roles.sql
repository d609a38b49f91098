-- Two roles for a store in PostgreSQL, beside the role that owns its tables and launches searches:
--
--   search_worker   trains: reads all, writes trials and results; makes, changes and drops no table, deletes no study
--   search_reader   looks: search status, best, trials, export, report, and any tool that reads SQL
--
-- Run by the owner of the tables, who may make roles (or have an administrator make the two roles first), in the
-- database of the store, once a first `search launch` has made the tables:
--
--   psql --dbname=search --file=docs/roles.sql
--
-- again after an upgrade. It may be run any number of times. Then give people and machines roles of their own:
--
--   CREATE ROLE gpu1 LOGIN PASSWORD '...' IN ROLE search_worker;
--   CREATE ROLE ada LOGIN PASSWORD '...' IN ROLE search_reader;

DO $$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'search_worker') THEN
    CREATE ROLE search_worker NOLOGIN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'search_reader') THEN
    CREATE ROLE search_reader NOLOGIN;
  END IF;
END
$$;

GRANT USAGE ON SCHEMA public TO search_worker, search_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO search_worker, search_reader;
-- Tables that a later version adds can be read at once; writing them is granted by running this file again.
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO search_worker, search_reader;

-- The ledger.
GRANT UPDATE ON search_studies TO search_worker;
GRANT INSERT, UPDATE ON search_candidates, search_late, search_rung_trainings TO search_worker;
GRANT INSERT, UPDATE, DELETE ON search_epochs, search_claims, search_workers, search_trainings TO search_worker;

-- Optuna's tables.
GRANT UPDATE ON studies TO search_worker;
GRANT INSERT, UPDATE ON study_user_attributes, trials, trial_params, trial_values, trial_user_attributes,
  trial_system_attributes TO search_worker;
GRANT INSERT, UPDATE, DELETE ON trial_intermediate_values TO search_worker;

GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO search_worker;
