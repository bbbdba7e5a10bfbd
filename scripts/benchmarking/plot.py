"""The plot of `benchmark.py`."""

from plots import style

OURS, OTHERS, FLOOR = style.BLUE, style.GREY, style.ORANGE


def draw(figures, path, n_actions, n_steps):
    """Plots a training step of the language model, from the dict that --json writes."""
    pyplot = style.require("--plot")
    milliseconds = 1e3 * figures["lm_step_s"]
    steps = {
        "its matrix products alone": milliseconds / figures["lm_step_over_floor"],
        "DSC-LSTM": milliseconds,
        "plain LSTMs of ours": milliseconds / figures["lm_step_over_plain"],
        "keras.layers.LSTM": milliseconds / figures["lm_step_over_keras"],
    }
    words = round(figures["lm_step_s"] * figures["lm_words_per_s"])
    base = f"K = {n_actions}, T = {n_steps}"
    per_word = {
        base: 1.0,
        "K = 20": figures["lm_k20_over_k5_time"],
        "K = 50": figures["lm_k50_over_k5_time"],
        f"T = {2 * n_steps}": figures["lm_t70_over_t35_per_word"],
        f"T = {4 * n_steps}": figures["lm_t140_over_t35_per_word"],
    }
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 2.9), layout="constrained")
    colours = [FLOOR, OURS, OTHERS, OTHERS]
    _bars(axes[0], steps, colours, "{:.0f} ms")
    axes[0].set_xlabel(f"milliseconds per training step of {words} words")
    _bars(axes[1], per_word, [OURS] * len(per_word), "{:.2f}")
    axes[1].set_xlabel(f"time per word, relative to {base}")
    style.save(figure, path)


def _bars(axis, values, colours, form):
    bars = axis.barh(list(values), list(values.values()), color=colours, height=0.62)
    axis.bar_label(bars, [form.format(v) for v in values.values()], padding=4)
    axis.set_xlim(0, 1.18 * max(values.values()))
    axis.invert_yaxis()
