"""Training steps of dkpipe beside those of JAX, PyTorch and TensorFlow, in one run.

    python peers.py --ours BINARY [--rounds 7] [--seconds 1] [--threads 1]

BINARY is ours.go, built. Every system is a process of its own that takes steps on its own copy of a batch when it is
told to, one process at a time: in each round every system runs for so many seconds, in turn, so a machine that gets
slower does so for all. Two clocks are read: the wall clock, of which the fastest step counts, and the processor time of
the whole process, of which the median of the rounds counts; the second one is fair on a machine that does other
work too. What is printed are milliseconds a step and how many times as fast as each peer dkpipe is.

The networks (facts of the comparison): "mlp" is 784-500-300-10 with ReLU; "cnn" is two convolutions of 32 filters of
3 by 3 (valid, ReLU), a max-pooling of 2, dense 225 (ReLU), dense 10. Softmax cross-entropy, SGD with rate 0.05 and
momentum 0.9, float32, Glorot start. "wide" is 784-500-500-10 with plain SGD, and beside it stand only its eight bare
matrix products by NumPy's OpenBLAS, written into arrays that are there already.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time


def data(net, batch):
    import numpy as np

    r = np.random.default_rng(1)
    x = r.random((batch, 784), dtype=np.float32)
    if net == "cnn":
        x = x.reshape(batch, 28, 28, 1)
    labels = r.integers(0, 10, batch)
    return x, labels, np.eye(10, dtype=np.float32)[labels]


def glorot(r, shape):
    import numpy as np

    field = int(np.prod(shape[:-2]))
    limit = (6 / (field * (shape[-2] + shape[-1]))) ** 0.5
    return r.uniform(-limit, limit, shape).astype(np.float32)


def shapes(net):
    if net == "cnn":
        return [(3, 3, 1, 32), (3, 3, 32, 32), (4608, 225), (225, 10)]
    return [(784, 500), (500, 300), (300, 10)]


def torch_step(net, batch, threads):
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    x, labels, _ = data(net, batch)
    x, labels = torch.from_numpy(x), torch.from_numpy(labels)
    if net == "cnn":
        model = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(4608, 225), nn.ReLU(), nn.Linear(225, 10))
        # The faster one of the two memory layouts.
        model = model.to(memory_format=torch.channels_last)
        x = x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    else:
        model = nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 300), nn.ReLU(), nn.Linear(300, 10))
    for p in model.parameters():
        nn.init.xavier_uniform_(p) if p.dim() > 1 else nn.init.zeros_(p)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    lossf = nn.CrossEntropyLoss()

    def step():
        opt.zero_grad(set_to_none=True)
        lossf(model(x), labels).backward()
        opt.step()

    return step


def tensorflow_step(net, batch, threads):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    import numpy as np

    r = np.random.default_rng(2)
    x, _, y = data(net, batch)
    x, y = tf.constant(x), tf.constant(y)
    ws = [tf.Variable(glorot(r, s)) for s in shapes(net)]
    bs = [tf.Variable(tf.zeros(s[-1])) for s in shapes(net)]
    vs = [tf.Variable(tf.zeros_like(v)) for v in ws + bs]

    def forward(h):
        rest = list(zip(ws, bs))
        if net == "cnn":
            for w, b in rest[:2]:
                h = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(h, w, 1, "VALID"), b))
            h = tf.reshape(tf.nn.max_pool2d(h, 2, 2, "VALID"), [-1, 4608])
            rest = rest[2:]
        for w, b in rest[:-1]:
            h = tf.nn.relu(tf.nn.bias_add(h @ w, b))
        w, b = rest[-1]
        return tf.nn.bias_add(h @ w, b)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(y, forward(x)))
        for p, v, g in zip(ws + bs, vs, tape.gradient(loss, ws + bs)):
            v.assign(0.9 * v - 0.05 * g)
            p.assign_add(v)
        return loss

    return step


def jax_step(net, batch, threads):
    # XLA on the processor takes its threads from the cores it may use.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ["JAX_PLATFORMS"] = "cpu"
    import jax
    import jax.numpy as jnp
    import numpy as np

    r = np.random.default_rng(2)
    x, _, y = data(net, batch)
    x, y = jnp.asarray(x), jnp.asarray(y)
    params = [(jnp.asarray(glorot(r, s)), jnp.zeros(s[-1])) for s in shapes(net)]
    speed = jax.tree.map(jnp.zeros_like, params)

    def loss(params):
        h, rest = x, params
        if net == "cnn":
            for w, b in rest[:2]:
                h = jax.lax.conv_general_dilated(h, w, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
                h = jax.nn.relu(h + b)
            h = jax.lax.reduce_window(h, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID").reshape(batch, -1)
            rest = rest[2:]
        for w, b in rest[:-1]:
            h = jax.nn.relu(h @ w + b)
        w, b = rest[-1]
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(h @ w + b), axis=1))

    def update(params, speed):
        g = jax.grad(loss)(params)
        speed = jax.tree.map(lambda v, g: 0.9 * v - 0.05 * g, speed, g)
        return jax.tree.map(jnp.add, params, speed), speed

    jitted = jax.jit(update, donate_argnums=(0, 1))
    state = [params, speed]

    def step():
        state[:] = jitted(*state)
        jax.block_until_ready(state)

    return step


def openblas_step(net, batch, threads):
    import numpy as np

    r = np.random.default_rng(1)
    widths = [784, 500, 500, 10]
    h = [r.random((batch, n), dtype=np.float32) for n in widths]
    w = [r.random(s, dtype=np.float32) - 0.5 for s in zip(widths, widths[1:])]
    dw = [np.empty_like(m) for m in w]

    def step():
        for i, m in enumerate(w):
            np.dot(h[i], m, out=h[i + 1])
        for i in reversed(range(len(w))):
            np.dot(h[i].T, h[i + 1], out=dw[i])
            if i > 0:
                np.dot(h[i + 1], w[i].T, out=h[i])

    return step


STEPS = {"torch": torch_step, "tensorflow": tensorflow_step, "jax": jax_step, "openblas": openblas_step}


def peers(net):
    return ["openblas"] if net == "wide" else ["torch", "tensorflow", "jax"]


def serve(system, net, batch, threads):
    """Takes steps for every number of seconds on standard input, as ours.go does."""
    step = STEPS[system](net, batch, threads)
    for _ in range(3):
        step()
    print("ready", flush=True)
    for line in sys.stdin:
        seconds, times = float(line), []
        used, start = time.process_time(), time.perf_counter()
        while len(times) < 3 or time.perf_counter() - start < seconds:
            t = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - t))
        used = time.process_time() - used
        print(json.dumps({"steps": len(times), "best_ms": min(times), "median_ms": statistics.median(times), "cpu_ms": 1e3 * used / len(times)}), flush=True)


class System:
    """A process that takes steps when it is told to."""

    def __init__(self, command, threads):
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        env = dict(os.environ, **{n: str(threads) for n in names})
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env)
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise SystemExit(f"{command} did not start")
            if line.strip() == "ready":
                return

    def run(self, seconds):
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ours", help="ours.go, built")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=1)
    p.add_argument("--threads", type=int, default=1, help="of the peers; dkpipe runs as many replicas")
    p.add_argument("--cases", default="wide/128,wide/32,mlp/128,mlp/32,cnn/128,cnn/32")
    p.add_argument("--serve", help=argparse.SUPPRESS)
    a = p.parse_args()
    if a.serve:
        system, net, batch = a.serve.split("/")
        return serve(system, net, int(batch), a.threads)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start; {a.rounds} rounds of {a.seconds} s; {a.threads} thread(s)")
    print("| network, batch | clock | dkpipe ms | peers' ms (times dkpipe's) |")
    print("|---|---|---|---|")
    for case in a.cases.split(","):
        net, batch = case.split("/")
        systems = {"dkpipe": System([a.ours, "-net", net, "-batch", batch, "-replicas", str(a.threads)], 1)}
        for s in peers(net):
            systems[s] = System([sys.executable, __file__, "--threads", str(a.threads), "--serve", f"{s}/{net}/{batch}"], a.threads)
        seen = {s: [] for s in systems}
        for _ in range(a.rounds):
            for s, system in systems.items():
                seen[s].append(system.run(a.seconds))
        for system in systems.values():
            system.stop()
        best = {s: min(r["best_ms"] for r in seen[s]) for s in seen}
        cpu = {s: statistics.median(r["cpu_ms"] for r in seen[s]) for s in seen}
        for clock, t in (("wall, fastest step", best), ("processor time, median round", cpu)):
            others = ", ".join(f"{s} {t[s]:.2f} ({t[s] / t['dkpipe']:.2f}x)" for s in peers(net))
            print(f"| {net}, {batch} | {clock} | {t['dkpipe']:.2f} | {others} |", flush=True)
    print("| network, batch | replicas | processor time of a step, ms | speed against one |")
    print("|---|---|---|---|")
    for case in a.cases.split(","):
        scaling(a, *case.split("/"))
    print(f"load {os.getloadavg()[0]:.1f} at the end")


def scaling(a, net, batch):
    """Two replicas of dkpipe against one, by processor time: replicas never wait for each other, so on two free cores
    the rate is two steps in the time of one step of theirs."""
    counts = (1, 2)
    systems = {n: System([a.ours, "-net", net, "-batch", batch, "-replicas", str(n)], 1) for n in counts}
    seen = {n: [] for n in counts}
    for _ in range(a.rounds):
        for n in counts:
            seen[n].append(systems[n].run(a.seconds)["cpu_ms"])
    for system in systems.values():
        system.stop()
    one, two = (statistics.median(seen[n]) for n in counts)
    print(f"| {net}, {batch} | 1, 2 | {one:.2f}, {two:.2f} | {2 * one / two:.2f}x |", flush=True)


if __name__ == "__main__":
    main()
