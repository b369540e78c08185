#!/usr/bin/env bash
# Trains on TPUs of a GKE cluster that has JobSet and the gcsfuse driver. The image: see Dockerfile beside this.
set -eu
name=mine type=v6e-64 image=REGION-docker.pkg.dev/PROJECT/REPOSITORY/adafocus:1
bucket=my-bucket config=configs/custom.py

exec adafocus launch gke "$name" --type "$type" --image "$image" --bucket "$bucket:/data" -- \
  train --config "$config" --data /data/records --workdir "/data/runs/$name" "$@"
