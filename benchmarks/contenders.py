"""One contender of benchmarks/training.py: a framework in one mode, on one model.

Each contender runs in its own process and takes turns: it waits for a number on its
standard input, trains that many epochs, and answers with the seconds and the mean loss
of each. A file holds the examples in their order, one-hot labels and initial weights.

    python -m benchmarks.contenders NAME MODEL FILE
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Weights = list[np.ndarray]
RATE = 0.01
K = 10  # steps per execution if neither 1 nor the whole epoch


class Turns:
    """Trains epochs on request, through the hooks of Keras's callbacks.

    The epochs of a turn follow each other without a pause, as in any training. After a
    pause, the first epoch would find the processor's caches filled by others.
    """

    def __init__(self) -> None:
        self._left = 0

    def begin(self) -> None:
        if not self._left:
            self._left = int(sys.stdin.readline() or sys.exit())
            self._answers: list[dict[str, float]] = []
        self._started = time.perf_counter()

    def end(self, loss: float) -> None:
        seconds = time.perf_counter() - self._started
        self.answer({"seconds": seconds, "loss": float(loss)})

    def answer(self, measured: dict[str, float]) -> None:
        self._answers.append(measured)
        self._left -= 1
        if not self._left:
            print(json.dumps(self._answers), flush=True)

    def on_epoch_begin(self, epoch: int, logs: object = None) -> None:
        self.begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        self.end(logs["loss"])


class Case:
    """A model's data and initial weights, read from the file."""

    def __init__(self, model: str, path: str) -> None:
        self.model = model
        with np.load(path) as file:
            self.x, self.y, self.order = file["x"], file["y"], file["order"]
            self.batch_size = int(file["batch_size"])
            self.weights = [file[f"w{i}"] for i in range(int(file["weights"]))]
        self.steps = len(self.x) // self.batch_size  # no case has a partial batch

    def ordered(self) -> tuple[np.ndarray, np.ndarray]:
        return self.x[self.order], self.y[self.order]

    def bytes(self) -> np.ndarray:
        return np.rint(self.x * 255).astype(np.uint8)


# TensorFlow and Keras: the code of the report's chapters


def section(case: Case) -> dict[str, Any]:
    from tests.notebooks import sections

    return sections.define(case.model, batch_size=case.batch_size)


def observer(turns: Turns) -> Any:
    import kvt

    class Observer(kvt.Callback):
        on_epoch_begin = staticmethod(turns.on_epoch_begin)
        on_epoch_end = staticmethod(turns.on_epoch_end)

    return Observer()


def run_keras(case: Case, turns: Turns, *, steps: int = 1, jit: bool = False) -> None:
    namespace = section(case)
    import keras

    model = namespace["model"]
    model.compile(
        loss=model.loss,
        optimizer=keras.optimizers.SGD(RATE),
        metrics=["accuracy"] if case.y.shape[1] > 1 else None,
        steps_per_execution=steps or case.steps,
        jit_compile=jit,
    )
    model.set_weights(case.weights)
    keras.utils.set_random_seed(0)
    model.fit(
        case.x,
        case.y,
        batch_size=case.batch_size,
        epochs=10**6,
        verbose=0,
        callbacks=[observer(turns)],
    )


def run_raw(
    case: Case,
    turns: Turns,
    *,
    in_session: bool = False,
    bytes_: bool = False,
    by_unit: bool = False,
    convolutions: bool = False,
    **mode: Any,
) -> None:
    import kvt

    namespace = section(case)
    x, prefix = case.x, "session_" if in_session else ""
    steps = [namespace[f"{prefix}{name}_step"] for name in ("train", "test")]
    if in_session:
        start, values = namespace["start"], namespace["values"]
        feed = dict(zip(values, case.weights, strict=True))
        namespace["session"].run(start, feed)
    else:
        for w, value in zip(namespace["weights"], case.weights, strict=True):
            w.assign(value)
    if by_unit:
        steps[0] = step_by_unit(case.weights, convolutions)
    if bytes_:
        x, steps[0] = case.bytes(), from_bytes(steps[0], case)
    kvt.fit(
        *steps,
        x,
        case.y,
        batch_size=case.batch_size,
        epochs=10**6,
        verbose=0,
        callbacks=[observer(turns)],
        **mode,
    )


def convolve(x, k):  # (b, h, w, i), (5, 5, i, o)
    import tensorflow as tf

    return tf.nn.conv2d(x, k, 1, "SAME")  # (b, h, w, o)


def convolution(x, k):
    """Return the convolution and a function for its gradients, by convolutions."""
    import tensorflow as tf

    def gradients(upstream):  # (b, h, w, o)
        turned = tf.transpose(k[::-1, ::-1], (0, 1, 3, 2))
        padded = tf.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
        across = tf.transpose(padded, (3, 1, 2, 0))  # examples as channels
        filters = tf.transpose(upstream, (1, 2, 0, 3))
        of_kernel = tf.nn.conv2d(across, filters, 1, "VALID")  # (i, 5, 5, o)
        of_input = convolve(upstream, turned)
        return of_input, tf.transpose(of_kernel, (1, 2, 0, 3))

    return convolve(x, k), gradients


def step_by_unit(weights: Weights, convolutions: bool = False) -> Any:
    """Return a step of the same model, written for the fastest products of TensorFlow.

    A dense layer's weights have one row per unit, (10, 784) or (1024, 3136), and its
    output has one column per example, so that no product needs a large transposed
    matrix. Max pooling comes before the rectifier, which then has a quarter of the
    work. The update is TensorFlow 1's single operation. With `convolutions`, the
    gradients of a convolution are convolutions too, which is faster in Eigen but not in
    oneDNN. Sums have another order than in Keras, so results are equal up to rounding.
    """
    import tensorflow as tf

    *layers, w, b = (tf.Variable(v.T if v.ndim == 2 else v) for v in weights)
    convolved = tf.custom_gradient(convolution) if convolutions else convolve

    def forward(x):  # (b, 784) or (b, 28, 28, 1)
        if layers:
            k1, c1, k2, c2, w1, b1 = layers
            for k, c in ((k1, c1), (k2, c2)):
                x = tf.nn.bias_add(convolved(x, k), c)
                x = tf.nn.relu(tf.nn.max_pool2d(x, 2, 2, "VALID"))
            x = tf.reshape(x, (-1, w1.shape[1]))  # (b, 3136)
            hidden = tf.matmul(w1, x, transpose_b=True) + b1[:, None]  # (1024, b)
            x = tf.transpose(tf.nn.relu(hidden))  # (b, 1024)
        return tf.transpose(tf.matmul(w, x, transpose_b=True) + b[:, None])  # (b, 10)

    @tf.function(autograph=False)
    def train_step(x, y):
        with tf.GradientTape() as tape:
            logits = forward(x)
            losses = tf.nn.softmax_cross_entropy_with_logits(y, logits)
            loss = tf.reduce_mean(losses)
        variables = [*layers, w, b]
        gradients = tape.gradient(loss, variables)
        for variable, gradient in zip(variables, gradients, strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(
                var=variable.handle, alpha=RATE, delta=gradient
            )
        hits = tf.equal(tf.argmax(y, axis=1), tf.argmax(logits, axis=1))
        return {"loss": loss, "accuracy": tf.cast(hits, tf.float32)}

    return train_step


def from_bytes(step: Any, case: Case) -> Any:
    import tensorflow as tf

    batch = (
        tf.TensorSpec((None, *case.x.shape[1:]), tf.uint8),
        tf.TensorSpec((None, *case.y.shape[1:]), tf.float32),
    )

    @tf.function(input_signature=batch, autograph=False)
    def cast_and_step(x, y):
        return step(tf.cast(x, tf.float32) / 255, y)

    return cast_and_step


# PyTorch, as its users write it: layers, cross-entropy, PyTorch's SGD


def torch_model(weights: Weights) -> Any:
    import torch
    from torch import nn

    def dense(w: np.ndarray, b: np.ndarray) -> nn.Linear:
        layer = nn.Linear(*w.shape)
        layer.weight.data = torch.tensor(w.T.copy())
        layer.bias.data = torch.tensor(b)
        return layer

    def convolution(k: np.ndarray, c: np.ndarray) -> nn.Conv2d:
        layer = nn.Conv2d(k.shape[2], k.shape[3], 5, padding=2)
        layer.weight.data = torch.tensor(k.transpose(3, 2, 0, 1).copy())
        layer.bias.data = torch.tensor(c)
        return layer

    if len(weights) == 2:
        return dense(*weights)
    if len(weights) == 4:
        return nn.Sequential(dense(*weights[:2]), nn.ReLU(), dense(*weights[2:]))
    k1, c1, k2, c2, w1, b1, w2, b2 = weights
    w1 = (
        w1.reshape(7, 7, 64, -1).transpose(2, 0, 1, 3).reshape(w1.shape)
    )  # channels first
    return nn.Sequential(
        convolution(k1, c1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        convolution(k2, c2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        dense(w1, b1),
        nn.ReLU(),
        dense(w2, b2),
    )


def run_torch(case: Case, turns: Turns, *, compiled: bool = False) -> None:
    import torch
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count())
    x, y = map(torch.tensor, case.ordered())
    if x.ndim == 4:
        x = x.permute(0, 3, 1, 2).contiguous()
    model = torch_model(case.weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE)
    classify = y.shape[1] > 1

    def measure(x, y):
        out = model(x)
        if not classify:
            return functional.mse_loss(out, y), out.new_zeros(())
        loss = functional.cross_entropy(out, y)
        return loss, (out.argmax(1) == y.argmax(1)).sum()

    if compiled:
        measure = torch.compile(measure)
    size = case.batch_size
    while True:
        turns.begin()
        total, hits = torch.zeros(()), torch.zeros((), dtype=torch.int64)
        for start in range(0, len(x), size):
            loss, right = measure(x[start : start + size], y[start : start + size])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach() * size
            hits = hits + right
        _ = int(hits)
        turns.end(float(total) / len(x))


# JAX: a pure function of weights and batch, jitted per step or scanned over an epoch


def jax_forward(weights: Any, x: Any, by_unit: bool = False) -> Any:
    import jax
    from jax import lax
    from jax import numpy as jnp

    if len(weights) == 2:
        w, b = weights
        axes = (((1,), (1 if by_unit else 0,)), ((), ()))
        return lax.dot_general(x, w, axes) + b
    if len(weights) == 4:
        w1, b1, w2, b2 = weights
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2
    k1, c1, k2, c2, w1, b1, w2, b2 = weights
    for k, c in ((k1, c1), (k2, c2)):
        x = lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + c)
        window = (1, 2, 2, 1)
        x = lax.reduce_window(x, -jnp.inf, lax.max, window, window, "VALID")
    h = jax.nn.relu(x.reshape(len(x), -1) @ w1 + b1)
    return h @ w2 + b2


def run_jax(
    case: Case,
    turns: Turns,
    *,
    scan: bool,
    bytes_: bool = False,
    by_unit: bool = False,
) -> None:
    import jax
    from jax import numpy as jnp

    x, y = case.ordered()
    if bytes_:
        x = case.bytes()[case.order]
    classify = y.shape[1] > 1
    x, y = (
        jnp.asarray(a.reshape(case.steps, case.batch_size, *a.shape[1:]))
        for a in (x, y)
    )

    def measure(weights, x, y):
        if bytes_:
            x = x.astype(jnp.float32) / 255
        out = jax_forward(weights, x, by_unit)
        if not classify:
            return jnp.mean((out - y) ** 2), 0
        loss = -jnp.mean(jnp.sum(y * jax.nn.log_softmax(out), axis=1))
        return loss, jnp.sum(out.argmax(1) == y.argmax(1))

    def step(weights, batch):
        logs, gradients = jax.value_and_grad(measure, has_aux=True)(weights, *batch)
        weights = [w - RATE * g for w, g in zip(weights, gradients, strict=True)]
        return weights, logs

    one = jax.jit(step, donate_argnums=0)
    all_ = jax.jit(
        lambda weights, batches: jax.lax.scan(step, weights, batches), donate_argnums=0
    )
    weights = [jnp.array(w.T if by_unit else w) for w in case.weights]
    cut = [(x[i], y[i]) for i in range(case.steps)] if not scan else []
    while True:
        turns.begin()
        if scan:
            weights, (losses, hits) = all_(weights, (x, y))
        else:
            logs = []
            for batch in cut:
                weights, one_log = one(weights, batch)
                logs.append(one_log)
            losses, hits = (np.array(column) for column in zip(*logs, strict=True))
        _ = int(np.sum(hits))
        turns.end(float(np.mean(losses)))


def run_floor(case: Case, turns: Turns) -> None:
    """Measure this machine, with TensorFlow's threads; this is not a contender."""
    import concurrent.futures

    import tensorflow as tf

    side, length, threads = 2_000, 100_000_000, os.cpu_count()
    a = tf.random.normal((side, side))
    halves = [(np.ones(length, "u1"), np.ones(length, "u1")) for _ in range(threads)]
    pool = concurrent.futures.ThreadPoolExecutor(threads)
    while True:
        turns.begin()
        started = time.perf_counter()
        tf.matmul(a, a).numpy()
        rate = 2 * side**3 / (time.perf_counter() - started)
        started = time.perf_counter()
        list(pool.map(lambda pair: np.copyto(*pair), halves))
        bandwidth = 2 * threads * length / (time.perf_counter() - started)
        turns.answer({"rate": rate, "bandwidth": bandwidth})


CONTENDERS: dict[str, Callable[[Case, Turns], None]] = {
    "Keras": lambda *a: run_keras(*a),
    f"Keras, {K} steps": lambda *a: run_keras(*a, steps=K),
    "Keras, epoch": lambda *a: run_keras(*a, steps=0),
    "Keras, XLA": lambda *a: run_keras(*a, jit=True),
    "Keras, epoch, XLA": lambda *a: run_keras(*a, steps=0, jit=True),
    "TensorFlow 2, step": lambda *a: run_raw(*a),
    f"TensorFlow 2, {K} steps": lambda *a: run_raw(*a, steps_per_execution=K),
    "TensorFlow 2, epoch": lambda *a: run_raw(*a, steps_per_execution="epoch"),
    "TensorFlow 2, XLA": lambda *a: run_raw(*a, jit_compile=True),
    "TensorFlow 2, epoch, XLA": lambda *a: run_raw(
        *a, steps_per_execution="epoch", jit_compile=True
    ),
    "TensorFlow 2, epoch, bytes": lambda *a: run_raw(
        *a, steps_per_execution="epoch", bytes_=True
    ),
    "TensorFlow 2, epoch, XLA, bytes": lambda *a: run_raw(
        *a, steps_per_execution="epoch", jit_compile=True, bytes_=True
    ),
    "TensorFlow 2, epoch, by unit": lambda *a: run_raw(
        *a, steps_per_execution="epoch", by_unit=True
    ),
    "TensorFlow 2, epoch, by unit, convolutions": lambda *a: run_raw(
        *a, steps_per_execution="epoch", by_unit=True, convolutions=True
    ),
    "TensorFlow 2, epoch, XLA, by unit": lambda *a: run_raw(
        *a, steps_per_execution="epoch", jit_compile=True, by_unit=True
    ),
    "TensorFlow 2, epoch, XLA, bytes, by unit": lambda *a: run_raw(
        *a, steps_per_execution="epoch", jit_compile=True, by_unit=True, bytes_=True
    ),
    "TensorFlow 1": lambda *a: run_raw(*a, in_session=True),
    "PyTorch": lambda *a: run_torch(*a),
    "PyTorch, compiled": lambda *a: run_torch(*a, compiled=True),
    "JAX, step": lambda *a: run_jax(*a, scan=False),
    "JAX, scan": lambda *a: run_jax(*a, scan=True),
    "JAX, scan, bytes": lambda *a: run_jax(*a, scan=True, bytes_=True),
    "JAX, scan, by unit": lambda *a: run_jax(*a, scan=True, by_unit=True),
    "JAX, scan, bytes, by unit": lambda *a: run_jax(
        *a, scan=True, bytes_=True, by_unit=True
    ),
    "floor": run_floor,
}


if __name__ == "__main__":
    name, model, path = sys.argv[1:]
    CONTENDERS[name](Case(model, path), Turns())
