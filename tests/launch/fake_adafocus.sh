#!/usr/bin/env bash
# Stands for `adafocus train --workdir DIR STEPS [WORKER=STATUS@STEP …]` of one worker: a checkpoint per step, shared by
# all; resumes from the newest. Every start is a line in DIR/starts. WORKER=STATUS@STEP: ends so at that step, once.
set -u
workdir=$3 steps=$4
shift 4
mkdir -p "$workdir/checkpoints"
echo "worker $FAKE_WORKER begins" >>"$workdir/starts"
exec 7>"$workdir/running-$FAKE_WORKER"
flock -n 7 || { echo "two at once" >>"$workdir/twice"; exit 1; }
trap 'echo stopped; exit 143' TERM
last=$(find "$workdir/checkpoints" -name '[0-9]*' -printf '%f\n' | sort -n | tail -n 1)
for ((step = ${last:-0} + 1; step <= steps; step++)); do
  sleep 0.05
  for fault in "$@"; do
    if [ "${fault%%@*}" != "$fault" ] && [ "${fault##*@}" = "$step" ] && [ "${fault%%=*}" = "$FAKE_WORKER" ] &&
      mkdir "$workdir/fault-$fault" 2>/dev/null; then
      status=${fault#*=}
      echo "fault at step $step"
      exit "${status%@*}"
    fi
  done
  [ "$FAKE_WORKER" != 0 ] || mkdir -p "$workdir/checkpoints/$step"
done
echo done
