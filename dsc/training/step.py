"""One training step under TensorFlow: gradients, clipping, update."""

import ctypes

import tensorflow as tf

from dsc.cli.errors import RunError, one_line


def make_train_step(task):
    """The compiled training step: `(step, batch, state) -> (state, metrics)`."""
    variables = task.model.trainable_variables
    distribution = task.distribution

    def replica_step(step, batch, state):
        batch, state = distribution.local_rows(batch), distribution.local_rows(state)
        with tf.GradientTape() as tape:
            loss, state, metrics = task.loss(step, batch, state)
        gradients = tape.gradient(loss, variables)
        gradients, state, means = distribution.join(
            gradients, state, {"loss": loss, **metrics}
        )
        gradients, norm = clip(gradients, task.max_grad_norm, task.dense_norm)
        distribution.apply(task.optimizer, gradients, variables)
        return state, {"loss": means.pop("loss"), "grad_norm": norm, **means}

    # Nothing here needs AutoGraph, which would take seconds.
    @tf.function(jit_compile=task.jit_compile, autograph=False)
    def train_step(step, batch, state):
        return distribution.run(replica_step, step, batch, state)

    return train_step


def clip(gradients, max_norm, dense_norm):
    """Clips gradients by their global norm.

    Args:
        gradients: list of tensors or `tf.IndexedSlices`, or None where a variable has
            no part in the loss.
        max_norm: positive number, or None for no clipping.
        dense_norm: whether repeated rows of `tf.IndexedSlices` are summed before they
            are squared; TensorFlow 1's `clip_by_global_norm` did not.

    Returns:
        `(gradients, norm)`: gradients without repeated rows, and the norm before
        clipping.
    """
    merged = [
        _merge_rows(g) if isinstance(g, tf.IndexedSlices) else g for g in gradients
    ]
    norm = tf.linalg.global_norm(merged if dense_norm else gradients)
    if max_norm is not None:
        merged, _ = tf.clip_by_global_norm(merged, max_norm, use_norm=norm)
    return merged, norm


def _merge_rows(slices):
    """The same gradient with each row once."""
    rows, place = tf.unique(slices.indices)
    values = tf.math.unsorted_segment_sum(slices.values, place, tf.size(rows))
    return tf.IndexedSlices(values, rows, slices.dense_shape)


def limit_gpu_memory(portion):
    """Lets this process use at most a share of each GPU's memory.

    Args:
        portion: between 0 and 1; 1 sets no limit.

    Raises:
        RunError: the driver does not report the memory of a GPU.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if portion == 1.0 or not gpus:
        return
    # TensorFlow reports a GPU's memory only after it has initialised the GPU, and
    # nvidia-smi ignores CUDA_VISIBLE_DEVICES.
    device, total = ctypes.c_int(), ctypes.c_size_t()
    for number, gpu in enumerate(gpus):
        try:
            cuda = ctypes.CDLL("libcuda.so.1")
            failed = cuda.cuDeviceGet(ctypes.byref(device), number)
            failed = failed or cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
            if failed:
                raise OSError(f"CUDA error {failed}")
        except OSError as error:
            raise RunError(
                f"--gpu_portion: the driver does not tell the memory of GPU {number} "
                f"({one_line(error)}); leave the flag out."
            ) from None
        limit = tf.config.LogicalDeviceConfiguration(
            memory_limit=portion * total.value / 2**20
        )
        tf.config.set_logical_device_configuration(gpu, [limit])
