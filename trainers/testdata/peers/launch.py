"""What starting workers costs, and two worker processes against one, by the commands that people type.

    python launch.py --dkpipe BINARY [--spark] [--rounds 5]

Takes the fashion example with its paths on this machine. First step: seconds from the start of `dkpipe train` until the
first commit of a window of one step. With --spark also for workers in the executors of a `dkpipe box up --executors 2`,
which must be able to start here; the first run there uploads the program and is shown apart. Then `dkpipe parity` with one
and two workers, in one process and in processes of their own.
"""

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import tempfile
import time

FOLDER = "/usr/share/datasets/fashion-mnist"
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")


def run(command, **options):
    p = subprocess.run(command, capture_output=True, text=True, **options)
    if p.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit code {p.returncode}\n{p.stdout}\n{p.stderr}")
    return p.stdout


def prepare(a, folder):
    """The example, with its table and its dataset in a folder."""
    with open(os.path.join(ROOT, "examples", "fashion", "job.yaml")) as f:
        job = re.sub(r"hdfs:///fashion", folder, f.read())
    with open(os.path.join(folder, "job.yaml"), "w") as f:
        f.write(job)
    files = ",".join(f"{FOLDER}/{part}-{name}-ubyte.gz" for part in ("train", "t10k") for name in ("images-idx3", "labels-idx1"))
    run([a.dkpipe, "data", "import", "--in", files, "--out", folder + "/raw"])
    run([a.dkpipe, "preprocess", "-f", "job.yaml"], cwd=folder)


def first_step(a, folder, launch, settings):
    """Seconds until the first commit, which the events have the time of."""
    events = os.path.join(folder, f"events-{time.time_ns()}.jsonl")
    began = datetime.datetime.now(datetime.timezone.utc)
    run([a.dkpipe, "train", "-f", "job.yaml", "--launch", launch, "--events", events, "--set", "train.window=1,train.max_steps=200,gate.at_least=0" + settings], cwd=folder)
    with open(events) as f:
        for line in f:
            e = json.loads(line)
            if e["type"] == "progress":
                at = datetime.datetime.fromisoformat(re.sub(r"(\.\d{6})\d*Z|Z$", lambda m: (m[1] or "") + "+00:00", e["t"]))
                return (at - began).total_seconds()
    raise SystemExit(f"{events} has no progress")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--dkpipe", required=True, help="the stripped binary: make build")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--spark", action="store_true", help="also workers in executors")
    p.add_argument("--parity", default="in-process,process", help="where the workers of the comparison run")
    p.add_argument("--results", help="folder for the figures as JSON")
    a = p.parse_args()
    a.dkpipe = os.path.abspath(a.dkpipe)
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        prepare(a, folder)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {a.rounds} rounds\n| | s to the first step | slowest |\n|---|---|---|")
        seen = [first_step(a, folder, "process", "") for _ in range(a.rounds)]
        figures["process"] = statistics.median(seen)
        print(f"| processes | {figures['process']:.2f} | {max(seen):.2f} |", flush=True)
        if a.spark:
            box = json.loads(run([a.dkpipe, "box", "up", "--dir", folder + "/box", "--executors", "2", "--json"]))
            try:
                settings = ",spark.remote=" + box["spark"]
                upload = first_step(a, folder, "spark", settings)
                seen = [first_step(a, folder, "spark", settings) for _ in range(a.rounds)]
                figures["spark"], figures["spark_upload"] = statistics.median(seen), upload
                print(f"| Spark executors | {figures['spark']:.2f} | {max(seen):.2f} |\n| the same, first run: the program is uploaded | {upload:.2f} | |", flush=True)
            finally:
                run([a.dkpipe, "box", "down", "--dir", folder + "/box"])
        print("| two workers against one, window 10 | one, samples/s | two, samples/s | speed |\n|---|---|---|---|")
        for launch in a.parity.split(","):
            r = json.loads(run([a.dkpipe, "parity", "-f", "job.yaml", "--workers", "1,2", "--seeds", str(a.rounds), "--launch", launch,
                                "--set", "train.window=10,train.epochs=2,train.optimizer={sgd: {learning_rate: 0.05, momentum: 0.9}}", "--json"], cwd=folder))
            rate = {n: [x["samples_per_s"] for x in r["runs"] if x["workers"] == n] for n in (1, 2)}
            ratio = statistics.median(y / x for x, y in zip(rate[1], rate[2]))
            figures["speed " + launch] = ratio
            print(f"| {launch} | {statistics.median(rate[1]):,.0f} | {statistics.median(rate[2]):,.0f} | {ratio:.2f}x |", flush=True)
    if a.results:
        with open(os.path.join(a.results, "launch.json"), "w") as f:
            json.dump(figures, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
