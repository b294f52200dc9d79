"""Elephas' asynchronous training with two workers, as a system of fleet.py: a Python of its own, for it needs other versions.

    python elephas_peer.py --rate 0.05 --seed 1

Spark local[2], a parameter server over HTTP, an exchange every batch of 128. Its workers start anew in every training, which
takes seconds and is in the time, as it is for whoever waits for it.
"""

import argparse
import json
import os
import sys
import time

for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[name] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["PYSPARK_PYTHON"] = sys.executable


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--rate", type=float, default=0.05)
    p.add_argument("--seed", type=int, default=1)
    a = p.parse_args()
    import keras
    import numpy as np
    from elephas.spark_model import AsynchronousSparkModel
    from elephas.utils.rdd_utils import to_simple_rdd
    from pyspark import SparkContext

    import fleet

    sc = SparkContext("local[2]", "peer")
    sc.setLogLevel("OFF")
    x, y = fleet.fashion("train")
    rdd = to_simple_rdd(sc, x, np.eye(10, dtype=np.float32)[y]).repartition(2).cache()
    rdd.count()

    def fit(epochs):
        keras.utils.set_random_seed(a.seed)
        model = keras.Sequential([keras.Input((784,)), keras.layers.Dense(500, "relu"), keras.layers.Dense(300, "relu"), keras.layers.Dense(10, "softmax")])
        model.compile(keras.optimizers.SGD(a.rate, 0.9), "categorical_crossentropy")
        spark = AsynchronousSparkModel(model, frequency="batch", mode="asynchronous", num_workers=2)
        start = time.time()
        spark.fit(rdd, epochs=epochs, batch_size=128, verbose=0, validation_split=0)
        return time.time() - start

    out, sys.stdout = sys.stdout, sys.stderr  # Elephas prints
    fit(1)
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        epochs = int(line)
        print(json.dumps({"samples": epochs * len(x), "seconds": fit(epochs)}), file=out, flush=True)


if __name__ == "__main__":
    main()
