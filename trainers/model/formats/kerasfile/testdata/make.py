"""Makes the samples of an older Keras, to be run where that version is installed: python make.py FOLDER.

A model with another one in it, batch normalizations, an embedding and two inputs, one of recurrent layers and one of
convolutions and poolings of sequences, saved in every format of the version; beside them the inputs, and what Keras
predicts for them.
"""

import json
import sys

import keras
import numpy as np

L = keras.layers
image, ids = keras.Input((6, 6, 2), name="image"), keras.Input((1,), name="ids")
x = L.Conv2D(3, 3, activation="relu", padding="same")(image)
x = L.BatchNormalization()(x)
x = L.MaxPooling2D()(x)
x = L.Flatten()(x)
inner = keras.Sequential([keras.Input((27,)), L.Dense(5, activation="tanh"), L.BatchNormalization(), L.Dropout(0.2), L.Dense(4)], name="inner")
x = inner(x)
e = L.Flatten()(L.Embedding(5, 2)(ids))
x = L.Concatenate()([x, e])
model = keras.Model([image, ids], [L.Dense(3, activation="softmax", name="p")(x), L.Dense(1, activation="hard_sigmoid", name="q")(x)])

sequences = keras.Sequential([
    keras.Input((4, 3), name="x"),
    L.Bidirectional(L.LSTM(3, return_sequences=True), merge_mode="ave"),
    L.SimpleRNN(4, return_sequences=True, go_backwards=True),
    L.Bidirectional(L.GRU(2), backward_layer=L.LSTM(2, go_backwards=True, recurrent_activation="hard_sigmoid")),
    L.Dense(1),
])

convolutions = keras.Sequential([
    keras.Input((12, 3), name="x"),
    L.Conv1D(4, 3, padding="causal", dilation_rate=2, activation="relu"),
    L.MaxPooling1D(3, strides=1),
    L.Conv1D(5, 2, strides=2, padding="same", use_bias=False),
    L.AveragePooling1D(padding="same"),
    L.Conv1D(3, 2, activation="tanh"),
    L.GlobalMaxPooling1D(keepdims=True),
    L.GlobalAveragePooling1D(),
    L.Dense(2),
])

rng = np.random.default_rng(1)
version = keras.__version__.rsplit(".", 1)[0]


def save(model, base, low, xs):
    model.set_weights([rng.uniform(low, 1, w.shape).astype("f4") for w in model.get_weights()])
    model.save(base + ".keras")
    model.save_weights(base + ".weights.h5")
    if version.startswith("2."):  # Keras 3.0 fails on models in models
        model.save(base + ".h5")
        model.save_weights(base + "-weights.h5")
    ys = model.predict(xs, verbose=0)
    with open(base + ".json", "w") as f:
        json.dump({"x": [x.ravel().tolist() for x in xs], "y": [np.asarray(y).ravel().tolist() for y in (ys if isinstance(ys, list) else [ys])]}, f)


base = f"{sys.argv[1]}/keras-{version}"
save(model, base, 0.2, [rng.normal(size=(4, 6, 6, 2)).astype("f4"), np.array([[0], [4], [2], [1]], "f4")])
save(sequences, base + "-recurrent", -1, [rng.normal(size=(4, 4, 3)).astype("f4")])
save(convolutions, base + "-convolutions", -1, [rng.normal(size=(4, 12, 3)).astype("f4")])
