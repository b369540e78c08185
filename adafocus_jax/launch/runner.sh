#!/usr/bin/env bash
# Runs one command on one machine, detached, and tells how it goes: a launcher's short, repeatable questions.
#   runner.sh setup DIGEST COMMAND    unpacks code.tar of that SHA-256, and runs COMMAND in it, once
#   runner.sh start ATTEMPT WORD...   runs the words in the code, unless this attempt was started before
#   runner.sh poll                    one line: running | exited STATUS STEP | absent
#   runner.sh stop                    SIGTERM, after a while SIGKILL; then frees the accelerator
#   runner.sh tail [LINES]            the end of the log
set -u
home=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$home" || exit 1

setup() {
  [ "$(sha256sum <code.tar | cut -d' ' -f1)" = "$1" ] || { echo "code.tar is not what was sent" >&2; exit 3; }
  exec 8>setup.lock
  flock 8
  [ "$(cat ready 2>/dev/null)" = "$1" ] && return 0
  rm -rf code ready && mkdir code && tar -xf code.tar -C code || exit 4
  (cd code && bash -c "$2") >setup.log 2>&1 8>&- || { tail -n 1 setup.log >&2; exit 5; }
  echo "$1" >ready
}

start() {
  local attempt=$1
  shift
  exec 9>lock
  # Whoever still runs here holds the lock: a repeated call must not start a second one beside it.
  flock -n 9 || return 0
  [ "$(cat attempt 2>/dev/null)" = "$attempt" ] && return 0
  rm -f status pid
  echo "$attempt" >attempt
  # The lock goes along, to the command and to whatever it starts.
  # shellcheck disable=SC2016
  setsid bash -c '
    cd code || exit 1
    PATH=$HOME/.local/bin:$PATH "$@" 8>&- &
    child=$!
    trap "kill -TERM $child" TERM
    while true; do wait "$child"; status=$?; kill -0 "$child" 2>/dev/null || break; done
    echo "$status" >../status.new && mv ../status.new ../status
  ' runner "$@" </dev/null >>log 2>&1 &
  echo $! >pid
}

poll() {
  if [ -e status ]; then
    echo "exited $(cat status) $(newest)"
  elif [ -e pid ] && kill -0 "$(cat pid)" 2>/dev/null; then
    echo "running 0 $(newest)"
  elif [ -e pid ]; then
    # Ended just now; or killed with its shell, as when the machine runs out of memory.
    echo "exited $(cat status 2>/dev/null || echo 137) $(newest)"
  else
    echo "absent 0 -1"
  fi
}

newest() {
  local workdir step
  workdir=$(cat workdir 2>/dev/null)
  step=$(find "$workdir/checkpoints" -mindepth 1 -maxdepth 1 -name '[0-9]*' -printf '%f\n' 2>/dev/null | grep -E '^[0-9]+$' |
    sort -n | tail -n 1)
  echo "${step:--1}"
}

stop() {
  local group
  group=$(cat pid 2>/dev/null)
  if [ -n "$group" ] && kill -0 -- "-$group" 2>/dev/null; then
    kill -TERM "$group"  # it passes the signal on, once
    for ((i = 0; i < ${GRACE:-90} * 5; i++)); do
      kill -0 -- "-$group" 2>/dev/null || break
      sleep 0.2
    done
    kill -KILL -- "-$group" 2>/dev/null
  fi
  # What died badly may still hold the chips.
  for device in /dev/accel* /dev/vfio/[0-9]*; do
    [ -e "$device" ] && command -v fuser >/dev/null && sudo -n fuser -k "$device" >/dev/null 2>&1
  done
  rm -f "${TMPDIR:-/tmp}/libtpu_lockfile"
  return 0
}

case ${1:-} in
  setup | start | poll | stop) "$@" ;;
  tail) tail -n "${2:-100}" log ;;
  *) sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
