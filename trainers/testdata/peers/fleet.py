"""Two workers of dkpipe beside two of PyTorch (Hogwild and DistributedDataParallel) and beside JAX with two threads.

    python fleet.py speed  --ours BINARY [--rounds 5] [--epochs 1]
    python fleet.py target --ours BINARY [--seeds 3] [--epochs 10]

BINARY is fleet.go, built. The network is 784-500-300-10 with ReLU on Fashion-MNIST, x/255, momentum 0.9, Glorot start.

speed: samples a second. Every system is a process that trains for so many epochs when it is told to; rounds are
interleaved, and medians count. Reading data into batches, exchanging and everything else that a training does is in it.

target: seconds from the start of the command until the mean of the last five evaluations on the test rows is 88 %. Every
52 steps of 128 samples each system copies its parameters and looks at the clock; it measures them when the training is
over, so evaluating costs nobody time. Means over the seeds; a seed that does not get there within the epochs is counted as
one that needed all of them, and said so.
"""

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import peers

FOLDER = "/usr/share/datasets/fashion-mnist"
EVERY = 52  # steps of 128 samples between two evaluations
AIM, LAST = 0.88, 5


def fashion(part):
    import numpy as np

    def read(name, header):
        with gzip.open(f"{FOLDER}/{part}-{name}-ubyte.gz") as f:
            return np.frombuffer(f.read(), np.uint8, offset=header)

    return read("images-idx3", 16).reshape(-1, 784).astype(np.float32) / 255, read("labels-idx1", 8).astype(np.int64)


def torch_model(seed):
    import torch
    from torch import nn

    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 300), nn.ReLU(), nn.Linear(300, 10))
    for p in model.parameters():
        nn.init.xavier_uniform_(p) if p.dim() > 1 else nn.init.zeros_(p)
    return model


def torch_accuracy(model, test):
    import torch

    x, y = test
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


class Trace:
    """What a training was like every so many steps."""

    def __init__(self, start):
        self.start, self.first, self.taken = start, None, []

    def stepped(self, steps, copy):
        """copy gives the parameters; steps are of 128 samples, of all workers."""
        if self.first is None and steps > 0:
            self.first = time.time() - self.start
        if steps // EVERY > len(self.taken):
            self.taken.append((time.time() - self.start, copy()))

    def report(self, accuracy):
        return {"first_step": self.first, "seconds": time.time() - self.start,
                "points": [(t, accuracy(p)) for t, p in self.taken]}


def torch_worker(rank, world, kind, a, model, train, test, counts, rendezvous, conn):
    """One of the processes. Hogwild's share the parameters and a half of the data each; DDP's share every batch."""
    import torch

    torch.set_num_threads(1)
    batch, parallel = 128, model
    if kind == "ddp":
        torch.distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
        parallel, batch = torch.nn.parallel.DistributedDataParallel(model), 128 // world
    x, y = train[0][rank::world], train[1][rank::world]
    opt = torch.optim.SGD(model.parameters(), lr=a.rate, momentum=0.9)
    lossf, order = torch.nn.CrossEntropyLoss(), torch.Generator().manual_seed(a.seed * world + rank)
    while (epochs := conn.recv()) is not None:
        trace = Trace(a.start)
        for _ in range(epochs):
            rows = torch.randperm(len(x), generator=order)
            for i in range(0, len(rows), batch):
                part = rows[i:i + batch]
                opt.zero_grad(set_to_none=True)
                lossf(parallel(x[part]), y[part]).backward()
                opt.step()
                counts[rank] += 1
                if kind == "ddp" and rank == 0 and test is not None:
                    trace.stepped(int(counts[0]), lambda: [p.detach().clone() for p in model.parameters()])
        end = time.time()
        conn.send((end, trace.report(lambda p: torch_measure(model, p, test)) if kind == "ddp" and rank == 0 and test is not None else None))
    if kind == "ddp":
        torch.distributed.destroy_process_group()


def torch_measure(model, params, test):
    import torch

    with torch.no_grad():
        for p, v in zip(model.parameters(), params):
            p.copy_(v)
    return torch_accuracy(model, test)


def torch_fleet(kind, a, world=2):
    """Gives a function that trains for so many epochs, and reports on it."""
    import torch
    import torch.multiprocessing as mp

    train = tuple(torch.from_numpy(v) for v in fashion("train"))
    test = tuple(torch.from_numpy(v) for v in fashion("t10k")) if a.trace else None
    model, counts = torch_model(a.seed).share_memory(), torch.zeros(world, dtype=torch.int64).share_memory_()
    context, conns, processes = mp.get_context("spawn"), [], []
    rendezvous = os.path.join(tempfile.mkdtemp(), "rendezvous")
    for rank in range(world):
        mine, theirs = context.Pipe()
        processes.append(context.Process(target=torch_worker, daemon=True, args=(
            rank, world, kind, a, model if kind == "hogwild" else torch_model(a.seed), train, test, counts, rendezvous, theirs)))
        processes[-1].start()
        conns.append(mine)

    def run(epochs):
        start, trace = time.time(), Trace(a.start)
        for c in conns:
            c.send(epochs)
        if kind == "hogwild" and test is not None:
            steps = -(-len(train[0][0::world]) // 128) * epochs * world
            while (done := int(counts.sum())) < steps:
                trace.stepped(done, lambda: [p.detach().clone() for p in model.parameters()])
                time.sleep(0.002)
        ends = [c.recv() for c in conns]
        report = {"samples": epochs * len(train[0]), "seconds": max(e for e, _ in ends) - start}
        if test is not None:
            report = ends[0][1] or trace.report(lambda p: torch_measure(torch_model(0), p, test))
        return report

    return run


def jax_fleet(_, a):
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    import numpy as np

    (x, y), r = fashion("train"), np.random.default_rng(a.seed)
    params = [(jnp.asarray(peers.glorot(r, s)), jnp.zeros(s[-1])) for s in peers.shapes("mlp")]
    state = [params, jax.tree.map(jnp.zeros_like, params)]

    def forward(params, h):
        for w, b in params[:-1]:
            h = jax.nn.relu(h @ w + b)
        return h @ params[-1][0] + params[-1][1]

    def loss(params, x, y):
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(forward(params, x)), y[:, None], 1))

    def update(params, speed, x, y):
        g = jax.grad(loss)(params, x, y)
        speed = jax.tree.map(lambda v, g: 0.9 * v - a.rate * g, speed, g)
        return jax.tree.map(jnp.add, params, speed), speed

    step, predict = jax.jit(update, donate_argnums=(0, 1)), jax.jit(forward)

    def run(epochs):
        start, trace, steps = time.time(), Trace(a.start), 0
        for _ in range(epochs):
            rows = r.permutation(len(x))
            for i in range(0, len(rows) - 127, 128):
                part = rows[i:i + 128]
                state[:] = step(*state, x[part], y[part])
                steps += 1
                if a.trace:
                    trace.stepped(steps, lambda: jax.tree.map(jnp.copy, state[0]))
        jax.block_until_ready(state)
        if not a.trace:
            return {"samples": 128 * steps, "seconds": time.time() - start}
        tx, ty = fashion("t10k")
        return trace.report(lambda p: float(np.mean(np.argmax(predict(p, tx), 1) == ty)))

    return run


FLEETS = {"hogwild": torch_fleet, "ddp": torch_fleet, "jax": jax_fleet}


def serve(a):
    """Trains for every number of epochs on standard input, as fleet.go does."""
    run = FLEETS[a.serve](a.serve, a)
    if not a.trace:
        run(1)  # whatever happens only once
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(int(line))), flush=True)
    os._exit(0)  # its workers are daemons


def command(a, system, trace, rate, seed):
    if system.startswith("dkpipe"):
        _, trainer, window, workers, slow = (system + "::::").split(":")[:5]
        return [a.ours, "-trainer", trainer or "agn", "-window", window or "10", "-workers", workers or "2", "-slow", slow or "1",
                "-rate", str(rate), "-seed", str(seed)] + (["-trace"] if trace else [])
    if system == "elephas":
        return [a.elephas, os.path.join(os.path.dirname(os.path.abspath(__file__)), "elephas_peer.py"), "--rate", str(rate), "--seed", str(seed)]
    return [sys.executable, __file__, "serve", "--serve", system, "--rate", str(rate), "--seed", str(seed)] + (["--trace"] if trace else [])


def threads(system):
    return 2 if system == "jax" else 1


def speed(a):
    systems = {s: peers.System(command(a, s, False, 0.05, 1), threads(s)) for s in a.systems}
    seen = {s: [] for s in systems}
    for _ in range(a.rounds):
        for s, system in systems.items():
            r = system.run(a.epochs)
            seen[s].append(r["samples"] / r["seconds"])
    for system in systems.values():
        system.stop()
    base = a.systems[0]
    ratio = {s: statistics.median(x / y for x, y in zip(seen[base], seen[s])) for s in systems}
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {a.rounds} rounds")
    print("| system | samples/s | the first one's against it |\n|---|---|---|")
    for s in systems:
        print(f"| {s} | {statistics.median(seen[s]):,.0f} | {ratio[s]:.2f}x |", flush=True)
    keep(a, "speed", {s: {"samples_per_s": statistics.median(seen[s]), "first_against_it": ratio[s]} for s in systems})


def reached(points):
    for i in range(LAST - 1, len(points)):
        if sum(p[1] for p in points[i - LAST + 1:i + 1]) / LAST >= AIM:
            return points[i][0], (i + 1) * EVERY
    return None


def target(a):
    rows, out = {}, {}
    for seed in range(1, a.seeds + 1):
        for spec in a.systems:
            system, _, rate = spec.partition("@")
            one = peers.System.__new__(peers.System)
            env = dict(os.environ, DKPIPE_START=repr(time.time()), OMP_NUM_THREADS=str(threads(system)), MKL_NUM_THREADS=str(threads(system)))
            one.process = subprocess.Popen(command(a, system, True, rate or 0.05, seed), env=env, text=True,
                                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if one.process.stdout.readline().strip() != "ready":
                raise SystemExit(f"{system} did not start")
            r = one.run(a.epochs)
            one.stop()
            rows.setdefault(spec, []).append((r, reached(r["points"])))
            at = rows[spec][-1][1]
            print(f"{spec}, seed {seed}: first step {r['first_step']:.2f} s, " + (f"88 % after {at[0]:.2f} s, {at[1]} steps" if at else "88 % not reached")
                  + f", last five {100 * sum(p[1] for p in r['points'][-5:]) / 5:.2f} %", file=sys.stderr, flush=True)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {a.seeds} seeds, {a.epochs} epochs")
    print("| system, rate | s to 88 % | steps of 128 | seeds that got there | s to the first step |\n|---|---|---|---|---|")
    for spec, seen in rows.items():
        late = [at if at else (r["points"][-1][0], len(r["points"]) * EVERY) for r, at in seen]
        out[spec] = {"seconds": statistics.mean(t for t, _ in late), "steps": statistics.mean(n for _, n in late),
                     "reached": sum(at is not None for _, at in seen), "first_step": statistics.median(r["first_step"] for r, _ in seen)}
        o = out[spec]
        print(f"| {spec} | {o['seconds']:.2f} | {o['steps']:,.0f} | {o['reached']} of {a.seeds} | {o['first_step']:.2f} |", flush=True)
    keep(a, "target", out)


def keep(a, what, figures):
    if a.results:
        with open(os.path.join(a.results, what + ".json"), "w") as f:
            json.dump(figures, f, indent=1)
            f.write("\n")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("what", choices=["speed", "target", "serve"])
    p.add_argument("--ours", help="fleet.go, built")
    p.add_argument("--elephas", help="Python with Elephas; adds it to the systems of speed")
    p.add_argument("--results", help="folder for the figures as JSON")
    p.add_argument("--systems", help="comma-separated: hogwild, ddp, jax, dkpipe:TRAINER:WINDOW:WORKERS:SLOW, worker 0 being SLOW times as slow; for target with @RATE")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--epochs", type=int)
    for name, kind in (("--serve", str), ("--rate", float), ("--seed", int)):
        p.add_argument(name, type=kind, help=argparse.SUPPRESS)
    p.add_argument("--trace", action="store_true", help=argparse.SUPPRESS)
    a = p.parse_args()
    a.start = float(os.environ.get("DKPIPE_START", time.time()))
    if a.what == "serve":
        return serve(a)
    fallback = {"speed": "dkpipe:agn:10:2,dkpipe:agn:10:1,hogwild,ddp,jax", "target": "dkpipe:diloco:30:2@0.02,dkpipe:downpour:1:2@0.05,hogwild@0.05,ddp@0.05"}
    a.systems = (a.systems or fallback[a.what]).split(",") + (["elephas"] if a.elephas else [])
    a.epochs = a.epochs or (1 if a.what == "speed" else 10)
    speed(a) if a.what == "speed" else target(a)


if __name__ == "__main__":
    main()
