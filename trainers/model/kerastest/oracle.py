"""Answers questions about Keras, ONNX Runtime and scikit-learn on standard input and output.

A message is one line of JSON followed by the bytes of its arrays, in both directions. See process.go.
"""

import json
import os
import sys
import traceback

import numpy as np

# Nothing but answers goes to the real standard output; what libraries print goes to standard error.
replies = os.fdopen(os.dup(1), "wb")
os.dup2(2, 1)
requests = sys.stdin.buffer

DTYPES = {"f4": np.float32, "f8": np.float64, "i8": np.int64}


def read_message():
    line = requests.readline()
    if not line:
        return None, None
    head = json.loads(line)
    arrays = []
    for a in head.get("arrays") or []:
        if a["type"] == "text":
            data = np.array(a["text"], dtype=object)
        else:
            dtype = np.dtype(DTYPES[a["type"]]).newbyteorder("<")
            data = np.frombuffer(requests.read(a["bytes"]), dtype=dtype).copy()
        arrays.append((a["name"], data.reshape(a["shape"] or ())))
    return head, arrays


def write_message(head, arrays=()):
    head["arrays"], blobs = [], []
    for name, value in arrays:
        value = np.asarray(value)
        a = {"name": name, "shape": list(value.shape)}
        if value.dtype.kind in "OSU":
            a.update(type="text", text=[s.decode() if isinstance(s, bytes) else str(s) for s in value.ravel()])
        else:
            kind = "f8" if value.dtype == np.float64 else "f4" if value.dtype.kind in "fV" else "i8"
            blob = np.ascontiguousarray(value.astype(DTYPES[kind])).tobytes()
            a.update(type=kind, bytes=len(blob))
            blobs.append(blob)
        head["arrays"].append(a)
    replies.write(json.dumps(head).encode() + b"\n")
    for blob in blobs:
        replies.write(blob)
    replies.flush()


class NumpyDraws:
    """Initializers draw with numpy: JAX would compile a program for every shape, only to be overwritten."""

    def __enter__(self):
        rng = np.random.default_rng(0)
        self.real = jax_random.uniform, jax_random.normal, jax_random.truncated_normal
        jax_random.uniform = lambda shape, minval=0.0, maxval=1.0, dtype=None, seed=None: rng.uniform(minval, maxval, shape).astype(dtype or "float32")
        jax_random.normal = lambda shape, mean=0.0, stddev=1.0, dtype=None, seed=None: rng.normal(mean, stddev, shape).astype(dtype or "float32")
        jax_random.truncated_normal = jax_random.normal

    def __exit__(self, *_):
        jax_random.uniform, jax_random.normal, jax_random.truncated_normal = self.real


def wide(value):
    """Rewrites a configuration from float32 to float64."""
    if isinstance(value, dict):
        return {k: wide(v) for k, v in value.items()}
    if isinstance(value, list):
        return [wide(v) for v in value]
    return "float64" if value == "float32" else value


class Precision:
    """Keras computes in float64 inside."""

    def __init__(self, dtype):
        self.dtype = dtype

    def __enter__(self):
        keras.config.set_floatx(self.dtype)
        keras.config.set_dtype_policy(self.dtype)

    def __exit__(self, *_):
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")


def pick(arrays, role):
    return [a for name, a in arrays if name == role]


def by_layer(arrays, role):
    """Groups arrays named role:layer/variable by layer, in the order given."""
    layers = {}
    for name, a in arrays:
        if name.startswith(role + ":"):
            layers.setdefault(name[len(role) + 1 :].split("/", 1)[0], []).append(a)
    return layers


def set_weights(model, layers):
    for name, values in layers.items():
        model.get_layer(name).set_weights(values)
    for layer in model.layers:
        if layer.weights and layer.name not in layers:
            raise ValueError(f"layer {layer.name} has {len(layer.weights)} weights and none were given")


def layer_variables(model):
    """Lists (layer/variable, variable) in the order of the layers' weights."""
    out = []
    for layer in model.layers:
        if isinstance(layer, keras.layers.Bidirectional):
            for side in ("forward_layer", "backward_layer"):
                out += [(f"{layer.name}/{side}/{v.name}", v) for v in getattr(layer, side).weights]
            continue
        for v in layer.weights:
            out.append((f"{layer.name}/{v.name}", v))
    return out


def make_model(text, dtype):
    config = json.loads(text)
    if dtype == "float64":
        config = wide(config)
    if "module" not in config:  # Keras 2
        from keras.src.legacy.saving import saving_utils

        return saving_utils.model_from_config(config)
    return keras.models.model_from_json(json.dumps(config))


def make_graph(graph):
    """Builds a model of layers with names, classes and configs."""
    at = {i["name"]: keras.Input(shape=i["shape"], name=i["name"]) for i in graph["inputs"]}
    inputs = list(at.values())
    for l in graph["layers"]:
        layer = getattr(keras.layers, l["class"]).from_config({**l["config"], "name": l["name"]})
        layer.trainable = not l["frozen"]
        x = [at[name] for name in l["from"]]
        at[l["name"]] = layer(x[0] if len(x) == 1 else x)
    outputs = [at[name] for name in graph["outputs"]]
    return keras.Model(inputs[0] if len(inputs) == 1 else inputs, outputs[0] if len(outputs) == 1 else outputs, name=graph["name"])


def op_build(args, arrays):
    """Gives a graph as Keras' JSON."""
    with NumpyDraws():
        return {"config": make_graph(args["graph"]).to_json()}, []


def as_list(value):
    return list(value) if isinstance(value, (list, tuple)) else [value]


def inputs_of(model, arrays):
    x = pick(arrays, "x")
    if not isinstance(model, keras.Sequential) and isinstance(model._inputs_struct, dict):
        return dict(zip(model._inputs_struct, x))
    return x[0] if len(x) == 1 else x


def outputs_of(model, value):
    """Puts outputs in the order of the model's output list."""
    return list(value.values()) if isinstance(value, dict) else as_list(value)


def make_loss(config):
    loss = keras.losses.get(config)
    return loss if isinstance(loss, keras.losses.Loss) else LossFunctionWrapper(loss, name=loss.__name__)


def op_run(args, arrays):
    """Outputs in inference mode; with a loss also its value, gradients and state of one training step."""
    dtype = args.get("dtype") or "float64"
    with Precision(dtype):
        with NumpyDraws():
            model = make_graph(args["graph"]) if args.get("graph") else make_model(args["model"], dtype)
        set_weights(model, by_layer(arrays, "weight"))
        cast = [(n, a.astype(dtype) if a.dtype.kind == "f" else a) for n, a in arrays]
        x, ys, ws = inputs_of(model, cast), pick(cast, "y"), pick(cast, "w")
        loss_config = args.get("loss")
        training = args.get("training", True)
        trainable = [v.value for v in model.trainable_variables]
        other = [v.value for v in model.non_trainable_variables]

        def infer(trainable, other):
            return outputs_of(model, model.stateless_call(trainable, other, x, training=False)[0])

        def loss_of(trainable, other):
            out, state, extra = model.stateless_call(trainable, other, x, training=training, return_losses=True)
            total = 0.0
            out = outputs_of(model, out)
            losses = loss_config if isinstance(loss_config, list) else [loss_config] * len(out)
            factors = args.get("loss_weights") or [1.0] * len(out)
            for y, p, l, f in zip(ys, out, losses, factors, strict=True):
                w = ws[0].reshape(-1, *[1] * (p.ndim - 2)) if ws else None  # of a row, whatever it holds
                total = total + f * make_loss(l)(y, p, sample_weight=w)
            for e in extra:
                total = total + e
            return total, state

        def all_of(trainable, other):
            outputs = infer(trainable, other)
            if loss_config is None:
                return outputs, None
            return outputs, jax.value_and_grad(loss_of, has_aux=True)(trainable, other)

        outputs, step = jax.jit(all_of)(trainable, other)
        reply = [("output", o) for o in outputs]
        result = {}
        if step is not None:
            (loss, state), grads = step
            result["loss"] = float(loss)
            names = {id(v): name for name, v in layer_variables(model)}
            reply += [("gradient:" + names[id(v)], g) for v, g in zip(model.trainable_variables, grads)]
            reply += [("state:" + names[id(v)], s) for v, s in zip(model.non_trainable_variables, state) if id(v) in names]
        return result, reply


def op_optimizer(args, arrays):
    """Applies steps of gradients. Arrays: param:NAME, and gradient:NAME with the steps as first dimension."""
    names = [n.removeprefix("param:") for n, _ in arrays if n.startswith("param:")]
    given = {n: a.astype("float64") for n, a in arrays}
    with Precision("float64"):
        variables = [keras.Variable(given["param:" + n], dtype="float64", name=n.replace("/", "_")) for n in names]
        optimizer = keras.optimizers.deserialize(args["config"])
        optimizer.build(variables)
        history = {n: [] for n in names}
        for t in range(len(given["gradient:" + names[0]])):
            optimizer.apply([given["gradient:" + n][t] for n in names], variables)  # not compiled: that would take longer
            for n, v in zip(names, variables):
                history[n].append(np.asarray(v.value))
    return {}, [(n, np.stack(h)) for n, h in history.items()]


def op_metrics(args, arrays):
    """Feeds every batch (arrays y, p and w by turns) to every metric and gives the results."""
    ys, ps, ws = pick(arrays, "y"), pick(arrays, "p"), pick(arrays, "w")
    results = []
    for i, config in enumerate(args["metrics"]):
        metric = keras.metrics.get(config)
        if not isinstance(metric, keras.metrics.Metric):
            metric = keras.metrics.MeanMetricWrapper(metric)
        for k, (y, p) in enumerate(zip(ys, ps, strict=True)):
            metric.update_state(y, p, sample_weight=ws[k] if ws else None)
        results.append((f"{i}", np.asarray(metric.result(), dtype=np.float64)))
    return {}, results


def op_load(args, arrays):
    """Loads a model file; with x also predicts."""
    with NumpyDraws():
        model = keras.models.load_model(args["path"], compile=False)
    reply = [("weight:" + name, v.value) for name, v in layer_variables(model)]
    if pick(arrays, "x"):
        reply += [("output", o) for o in outputs_of(model, model(inputs_of(model, arrays), training=False))]
    return {"config": model.to_json(), "class": type(model).__name__}, reply


def op_save(args, arrays):
    """Makes a model from JSON, sets its weights and saves it: .keras, .h5 or .weights.h5."""
    with NumpyDraws():
        model = make_model(args["model"], "float32")
    set_weights(model, by_layer(arrays, "weight"))
    if args.get("compile"):
        model.compile(**args["compile"])
    path = args["path"]
    model.save_weights(path) if path.endswith(".weights.h5") else model.save(path)
    return {"config": model.to_json()}, [("weight:" + name, v.value) for name, v in layer_variables(model)]


def op_onnx(args, arrays):
    """Checks an ONNX file and runs it."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(args["path"], full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(args["path"], options, providers=["CPUExecutionProvider"])
    types = {i.name: i.type for i in session.get_inputs()}
    feed = {}
    for name, a in arrays:
        want = types.get(name, "")
        casts = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": np.bool_}
        feed[name] = a.astype(casts[want]) if want in casts else a
    names = [o.name for o in session.get_outputs()]
    return {"inputs": types, "outputs": names}, list(zip(names, session.run(names, feed)))


def op_python(args, arrays):
    """Runs code that defines main(args, arrays), where arrays is a dict; it gives (result, dict of arrays). It can use
    the functions of this file."""
    scope = dict(globals())
    exec(compile(args["code"], "test", "exec"), scope)
    result, out = scope["main"](args.get("args"), dict(arrays))
    return result, list(out.items())


try:
    import jax
    import keras
    from keras.src.backend.jax import numpy as jax_numpy
    from keras.src.backend.jax import random as jax_random
    from keras.src.losses.losses import LossFunctionWrapper
except Exception as e:
    write_message({"error": f"{type(e).__name__}: {e}", "trace": traceback.format_exc()})
    sys.exit(1)

jax_numpy.tanh = jax.numpy.tanh  # that of Keras rounds to float32, also where all is float64
write_message({"result": {"keras": keras.__version__, "jax": jax.__version__, "numpy": np.__version__}})
OPS = {name[3:]: f for name, f in list(globals().items()) if name.startswith("op_")}
while True:
    head, arrays = read_message()
    if head is None:
        os._exit(0)
    try:
        result, out = OPS[head["op"]](head.get("args") or {}, arrays)
        write_message({"result": result}, out)
    except Exception as e:
        write_message({"error": f"{type(e).__name__}: {e}", "trace": traceback.format_exc()})
    finally:
        keras.backend.clear_session()
