#!/usr/bin/env python3
"""A cloud in a folder: `gcloud compute tpus …` over a state machine whose workers are processes with a HOME each.

FAKE_CLOUD names the folder. `events` there holds what is to go wrong, one per line: `scp 1` fails the next copy to
worker 1; `ssh255 0` runs the next command of worker 0 twice, as gcloud does when ssh breaks; `state FAILED` is the next
state; `denied` refuses the next create. A worker's HOME is wiped when the slice is made anew.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

CLOUD = Path(os.environ.get("FAKE_CLOUD", ""))
WORKERS = int(os.environ.get("FAKE_WORKERS", "2"))


def option(words, name, default=""):
    return words[words.index(name) + 1] if name in words else default


def take(event):
    """Whether an event is due; it happens once."""
    with open(CLOUD / "events", "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        lines = file.read().splitlines()
        found = next((line for line in lines if line == event or line.startswith(event + " ")), None)
        if found is not None:
            lines.remove(found)
            file.seek(0)
            file.truncate()
            file.write("\n".join(lines) + ("\n" if lines else ""))
    return found


def home(name, worker):
    return CLOUD / name / f"worker-{worker}"


def kill_all(name):
    """The machines are gone, and all that ran on them."""
    subprocess.run(["pkill", "-KILL", "-f", str(CLOUD / name)], check=False)
    for pid in (CLOUD / name).glob("worker-*/.adafocus-runs/*/pid"):
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.killpg(int(pid.read_text()), 9)


def queued(words):
    verb, name = words[0], words[1]
    file = CLOUD / f"{name}.json"
    if verb == "create":
        if take("denied"):
            sys.exit("ERROR: (gcloud) PERMISSION_DENIED: quota exceeded")
        if file.exists():
            sys.exit("ERROR: (gcloud) ALREADY_EXISTS: the resource already exists")
        shutil.rmtree(CLOUD / name, ignore_errors=True)
        for worker in range(WORKERS):
            home(name, worker).mkdir(parents=True)
        file.write_text(json.dumps(["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]))
    elif not file.exists():
        sys.exit(f"ERROR: (gcloud) NOT_FOUND: Resource '{name}' was not found")
    elif verb == "describe":
        states = json.loads(file.read_text())
        if forced := take("state"):
            states = [forced.split()[1]]
            kill_all(name)
        file.write_text(json.dumps(states[1:] or states))
        print(states[0])
    elif verb == "delete":
        kill_all(name)
        file.unlink()


def vm(words):
    verb, worker = words[0], option(words, "--worker")
    if verb == "ssh":
        name, command = words[1], option(words, "--command")
        if worker == "all":
            sys.exit(max(shell(name, each, command) for each in range(WORKERS)))
        if take(f"ssh255 {worker}"):
            shell(name, worker, command)
        sys.exit(shell(name, worker, command))
    if verb == "scp":
        target = next(word for word in words if ":" in word and not word.startswith("-"))
        name, folder = target.split(":", 1)
        if take(f"scp {worker}"):
            sys.exit("ERROR: (gcloud) scp: Connection closed")
        for file in words[1 : words.index(target)]:
            data = Path(file).read_bytes()
            if take(f"cut {worker}"):
                data = data[: len(data) // 2]
            (home(name, worker) / folder / Path(file).name).write_bytes(data)


def shell(name, worker, command):
    own = home(name, worker)
    if not own.is_dir():
        print("ERROR: (gcloud) NOT_FOUND: no such machine", file=sys.stderr)
        return 1
    env = {**os.environ, "HOME": str(own), "FAKE_WORKER": str(worker), "TMPDIR": str(own), "GRACE": "5"}
    return subprocess.run(["bash", "-c", command], cwd=own, env=env, check=False).returncode


if __name__ == "__main__":
    words = sys.argv[1:]
    assert words[:2] == ["compute", "tpus"], words
    (queued if words[2] == "queued-resources" else vm)(words[3:])
