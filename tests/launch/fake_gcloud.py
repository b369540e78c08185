#!/usr/bin/env python3
"""A cloud in a folder: `gcloud compute tpus …` over a state machine whose workers are processes with a HOME each.

FAKE_CLOUD names the folder. `events` there holds what is to go wrong, one per line: `scp 1` fails the next copy to
worker 1; `ssh255 0` runs the next command of worker 0 twice, as gcloud does when ssh breaks; `state FAILED` is the next
state; `denied` refuses the next create. A worker's HOME is wiped when the slice is made anew.
"""

import fcntl
import os
import sys

# No pathlib, shutil, subprocess: tests start this 600 times, and their import takes twice as long as all the rest.
CLOUD = os.environ.get("FAKE_CLOUD", "")
WORKERS = int(os.environ.get("FAKE_WORKERS", "2"))


def option(words, name, default=""):
    return words[words.index(name) + 1] if name in words else default


def take(event):
    """Whether an event is due; it happens once."""
    with open(f"{CLOUD}/events", "r+") as file:
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
    return f"{CLOUD}/{name}/worker-{worker}"


def run(*words, env=os.environ):
    return os.spawnvpe(os.P_WAIT, words[0], words, env)


def kill_all(name):
    """The machines are gone, and all that ran on them."""
    run("pkill", "-KILL", "-f", f"{CLOUD}/{name}")
    run(
        "bash",
        "-c",
        'for pid in "$0"/worker-*/.adafocus-runs/*/pid; do kill -9 -- "-$(cat "$pid")"; done 2>/dev/null',
        f"{CLOUD}/{name}",
    )


def queued(words):
    verb, name = words[0], words[1]
    states = f"{CLOUD}/{name}.states"
    if verb == "create":
        if take("denied"):
            sys.exit("ERROR: (gcloud) PERMISSION_DENIED: quota exceeded")
        if os.path.exists(states):
            sys.exit("ERROR: (gcloud) ALREADY_EXISTS: the resource already exists")
        run("rm", "-rf", f"{CLOUD}/{name}")
        for worker in range(WORKERS):
            os.makedirs(home(name, worker))
        write(states, ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"])
    elif not os.path.exists(states):
        sys.exit(f"ERROR: (gcloud) NOT_FOUND: Resource '{name}' was not found")
    elif verb == "describe":
        with open(states) as file:
            coming = file.read().split()
        if forced := take("state"):
            coming = [forced.split()[1]]
            kill_all(name)
        write(states, coming[1:] or coming)
        print(coming[0])
    elif verb == "delete":
        kill_all(name)
        os.unlink(states)


def write(path, states):
    with open(path, "w") as file:
        file.write(" ".join(states))


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
        for path in words[1 : words.index(target)]:
            with open(path, "rb") as file:
                data = file.read()
            if take(f"cut {worker}"):
                data = data[: len(data) // 2]
            with open(f"{home(name, worker)}/{folder}/{os.path.basename(path)}", "wb") as file:
                file.write(data)


def shell(name, worker, command):
    own = home(name, worker)
    if not os.path.isdir(own):
        print("ERROR: (gcloud) NOT_FOUND: no such machine", file=sys.stderr)
        return 1
    os.chdir(own)
    env = {**os.environ, "HOME": own, "FAKE_WORKER": str(worker), "TMPDIR": own, "GRACE": "5"}
    return run("bash", "-c", command, env=env)


if __name__ == "__main__":
    words = sys.argv[1:]
    assert words[:2] == ["compute", "tpus"], words
    (queued if words[2] == "queued-resources" else vm)(words[3:])
