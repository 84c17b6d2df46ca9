#!/bin/bash
# Eight workers of one study, as an array of jobs:
#
#     sbatch examples/engines/slurm.sh "$SCRATCH/study.log" 200
#
# The study is a journal in a folder that all nodes share. Submitting this again carries on with it.
#SBATCH --job-name=optuna-llm
#SBATCH --array=1-8
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --time=02:00:00
#SBATCH --output=worker-%A-%a.log
set -euo pipefail

# OPENAI_API_KEY, OPENAI_BASE_URL and OPTUNA_LLM_MODEL come from the shell that submits this. Compute
# nodes that do not reach the internet need a model that they do reach, such as vLLM on a node.
: "${OPTUNA_LLM_MODEL:=offline}"
export OPTUNA_LLM_MODEL

cd "${SLURM_SUBMIT_DIR:-.}"
exec srun python examples/engines/worker.py "$1" "${2:-200}"
