#!/usr/bin/env bash
# Trains on all local devices, and starts again after a signal that a scheduler sends before it takes the machine.
#   launch/local.sh configs/custom.py records/ runs/mine [--config.SETTING=VALUE ...]
set -u
config=$1 data=$2 workdir=$3
shift 3
while true; do
  adafocus train --config "$config" --data "$data" --workdir "$workdir" "$@"
  status=$?
  [ "$status" -eq 143 ] || exit "$status"   # 143: stopped by SIGTERM after a checkpoint; anything else is final
done
