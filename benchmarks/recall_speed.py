"""R@1 of a large split, here and by scikit-learn's brute force: `python -m benchmarks.recall_speed`.

Each runs in a process of its own, in turns; a JSON line with the seconds of both (medians) and of the CPU's cores
together, the ratio, the memory that each took beyond the embeddings, and whether the results are equal. The embeddings
are such as a network returns of images that it has not seen: non-negative, and a good part of the nearest neighbours
of the right class. Beside the seconds stands how near ours come to those of the products of all pairs of embeddings,
each pair once, at the rate of a matrix product in the same run.
"""

import multiprocessing
import resource
import statistics
import time

import numpy as np
import threadpoolctl
from absl import app, flags

from benchmarks.arithmetic import MatrixProduct
from benchmarks.results import record
from benchmarks.turns import timed_here

IMAGES = flags.DEFINE_integer("images", 50_000, "Images of the split.")
WIDTH = flags.DEFINE_integer("width", 2048, "Of an embedding.")
CLASSES = flags.DEFINE_integer("classes", 1000, "Classes of the split.")
REPEATS = flags.DEFINE_integer("repeats", 1, "Processes of each, whose median counts.")
LIMIT = 60.0  # seconds


def embeddings_and_labels(images: int, width: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = generator.permutation(np.arange(images) % classes)  # nobody alone, whom only ours leaves out
    embeddings = generator.standard_normal((images, width), np.float32)
    means = 0.3 * generator.standard_normal((classes, width), np.float32)
    for row, label in zip(embeddings, labels, strict=True):  # whose memory must not hide that of what is measured
        np.maximum(row + means[label], 0, out=row)
    return embeddings, labels


def ours(embeddings: np.ndarray, labels: np.ndarray) -> float:
    from cskd_tf.evaluation.neighbours import recall_at_k

    return recall_at_k(embeddings, labels)


def scikit_learn(embeddings: np.ndarray, labels: np.ndarray) -> float:
    from sklearn.neighbors import NearestNeighbors

    neighbours = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(embeddings).kneighbors(return_distance=False)
    return float(np.mean(labels[neighbours[:, 0]] == labels))


def _peak_memory_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def _work(function, settings, results) -> None:
    function(*embeddings_and_labels(100, 8, 5))  # imports what it needs
    embeddings, labels = embeddings_and_labels(*settings)
    before = _peak_memory_mib()
    start, start_of_cpu = time.perf_counter(), time.process_time()
    recall = function(embeddings, labels)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_of_cpu
    kernels = {each["architecture"] for each in threadpoolctl.threadpool_info() if "numpy" in each["filepath"]}
    results.put((seconds, cpu_seconds, _peak_memory_mib() - before, recall, *kernels))


def main(argv):
    del argv
    settings = IMAGES.value, WIDTH.value, CLASSES.value
    context = multiprocessing.get_context("spawn")
    measured = {ours: [], scikit_learn: []}
    product, matrix_seconds = MatrixProduct("float32"), []
    for _ in range(REPEATS.value):
        matrix_seconds += timed_here({"product": product}, rounds=1)["product"]
        for function, rounds in measured.items():
            results = context.SimpleQueue()
            process = context.Process(target=_work, args=(function, settings, results))
            process.start()
            process.join()
            if process.exitcode:
                raise ChildProcessError(f"{function.__name__} ended with exit code {process.exitcode}")
            rounds.append(results.get())
    line = {"benchmark": "recall_speed", **dict(zip(("images", "width", "classes"), settings, strict=True))}
    medians = {}
    for function, rounds in measured.items():
        seconds, cpu_seconds, memory, recall, *kernels = zip(*rounds, strict=True)
        medians[function] = statistics.median(seconds)
        line[f"{function.__name__}_seconds"] = round(medians[function], 2)
        line[f"{function.__name__}_cpu_seconds"] = round(statistics.median(cpu_seconds), 2)
        line[f"{function.__name__}_memory_mib"] = max(memory)
        line[f"{function.__name__}_recall"] = recall[0]
    our_seconds = [each[0] for each in measured[ours]]
    line["ours_share_of_matrix_rate"] = product.share(IMAGES.value**2 * WIDTH.value, our_seconds, matrix_seconds)
    line["times_as_fast"] = round(medians[scikit_learn] / medians[ours], 2)
    line["equal"] = line["ours_recall"] == line["scikit_learn_recall"]
    record("recall_speed", line | {"limit_seconds": LIMIT, "blas": kernels[0][0]}, per_cpu=True)


if __name__ == "__main__":
    app.run(main)
