#!/usr/bin/env bash
# Trains on a Cloud TPU slice, through preemptions, and gives it back: run this on a small VM, or in tmux.
set -eu
name=mine zone=us-east5-b type=v6e-64
bucket=my-bucket    # mounted on every worker; holds records and workdir
config=configs/custom.py

exec adafocus launch tpu "$name" --zone "$zone" --type "$type" --spot --bucket "$bucket:/mnt/$bucket" -- \
  train --config "$config" --data "/mnt/$bucket/records" --workdir "/mnt/$bucket/runs/$name" "$@"
