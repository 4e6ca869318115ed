#!/bin/sh
# MLflow for a group: runs in PostgreSQL, artifacts sent through the server, an account for each person.
#
# Secrets come from the environment, never from a command line:
#   PGPASSWORD                     the database's, unless ~/.pgpass holds it (also PGHOST, PGPORT, PGUSER)
#   MLFLOW_AUTH_ADMIN_PASSWORD     of the user admin, who is made at the first start
#   MLFLOW_FLASK_SERVER_SECRET_KEY any long random text; the same after a restart
# Further settings: ARTIFACTS (a folder, or s3://bucket), HOST, PORT, WORKERS. HOST is loopback unless told otherwise.
set -eu

: "${MLFLOW_FLASK_SERVER_SECRET_KEY:?is not set: choose a long random text}"
MLFLOW_AUTH_CONFIG_PATH="${MLFLOW_AUTH_CONFIG_PATH:-$(dirname "$(realpath "$0")")/basic_auth.ini}"
# What the server would do for language models, in processes of its own.
MLFLOW_SERVER_ENABLE_JOB_EXECUTION="${MLFLOW_SERVER_ENABLE_JOB_EXECUTION:-false}"
export MLFLOW_AUTH_CONFIG_PATH MLFLOW_SERVER_ENABLE_JOB_EXECUTION

exec mlflow server \
  --backend-store-uri postgresql+psycopg:///mlflow \
  --serve-artifacts --artifacts-destination "${ARTIFACTS:-./mlflow-artifacts}" \
  --app-name basic-auth \
  --host "${HOST:-127.0.0.1}" --port "${PORT:-5000}" --workers "${WORKERS:-4}" "$@"
