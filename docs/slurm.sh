#!/bin/bash
# A search on Slurm: one worker a job of the array, each with a GPU of its own. docs/cluster.md explains it.
#
#   search launch night --trials 500 --workers 0 --storage ...      # somewhere that stays: shows the search
#   sbatch --array=0-15 docs/slurm.sh night                         # 16 workers, at once or as they find room
#   scancel --batch --signal=TERM JOB_ID                            # these workers finish their trials and end
#
# SEARCH_STORAGE is the URL without the password; that stands in PGPASSFILE, mode 0600. Or SEARCH_STORAGE_FILE names a
# file of that mode with the whole URL. They travel with sbatch, as all of the environment does; nothing secret is on
# a command line, which everyone on a node can read.
#SBATCH --job-name=search-worker
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=search-%A_%a.log

set -euo pipefail

study=${1:?name the study: sbatch docs/slurm.sh STUDY}
if [ -z "${SEARCH_STORAGE:-}${SEARCH_STORAGE_FILE:-}" ]; then
  echo "set SEARCH_STORAGE to postgresql://search@host/search, or SEARCH_STORAGE_FILE to a file that holds it" >&2
  exit 2
fi

# A folder of the node: data, checkpoints and what is owed to a database that is away. With a folder that all
# nodes share, a trial that is tried again goes on from its checkpoint wherever that happens.
export SEARCH_DATA_DIR=${SEARCH_DATA_DIR:-${TMPDIR:-/tmp}/search-data}
# The prepared images: a data folder that all nodes see, or a launcher with --serve-data.
export SEARCH_DATA_FROM=${SEARCH_DATA_FROM:-}
# 10 minutes before the time limit the worker is told to end: its trial may take this long, else it is cancelled
# and written down as such. Keep it below the number in --signal.
export SEARCH_GRACE=${SEARCH_GRACE:-9m}

# The shell stays, since Slurm's signal comes to it (B:), and passes it on; `wait` ends at the signal.
told='' worker=''
trap 'if [ -n "$worker" ]; then kill -TERM "$worker" || :; else told=1; fi' TERM INT
search worker --study "$study" --name "slurm-${SLURM_ARRAY_JOB_ID:-0}-${SLURM_ARRAY_TASK_ID:-0}" &
worker=$!
[ -z "$told" ] || kill -TERM "$worker" # told while it was started
code=0
wait "$worker" || code=$?
while kill -0 "$worker" 2>/dev/null; do
  code=0
  wait "$worker" || code=$?
done

# 0: the search is done. 143: it was told to end, and has: the job is put back in the queue by --requeue where
# Slurm preempted it, and has ended well where its time was up.
[ "$code" -eq 143 ] && code=0
exit "$code"
