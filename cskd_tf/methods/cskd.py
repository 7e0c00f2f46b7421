"""CS-KD: class-wise self-knowledge distillation (Yun et al., CVPR 2020, https://arxiv.org/abs/2003.13964)."""

import tensorflow as tf

from cskd_tf.checks import check_count, check_flag, check_number, check_option
from cskd_tf.data.batches.views import CLEAN, IMAGE, partner_views
from cskd_tf.errors import UserError
from cskd_tf.losses import kl_divergence
from cskd_tf.methods.base import BatchNormMode, Method, View


class CSKD(Method):
    """Pulls the prediction for an image towards the one for another image of its class.

    Adds `weight * T^2 * KL( stop_gradient softmax(z(x') / T) || softmax(z(x) / T) )` to the cross-entropy of `x`
    (equation 1 of the paper), where `x'` is drawn uniformly from the training images of the class. The paper
    picks T from {1, 4} and the weight from {1, 2, 3, 4} by validation error; its public code's README has 4 and 1 for
    CIFAR-100, 4 and 3 for CUB-200-2011.

    With `clean_weight` it is CS-KD-E: beside that,
    `clean_weight * T^2 * KL( stop_gradient softmax(z(clean x) / T) || softmax(z(x) / T) )`, towards the image as it is
    shown at evaluation. `form="iclr"` is the submission to ICLR 2020: no factor T^2, and the gradient of the clean term
    (there "sample-wise") flows both ways. The papers leave open in which mode the clean image passes batch norm: here
    as the image does, so that its pass moves the running statistics, whatever `partner_batch_norm` is.

    `in_batch` takes the partners from the batch itself, which is then drawn in pairs: every image takes cross-entropy
    and is pulled to its neighbour. There is no second pass; no paper has it.

    Of several classes (`multi_label=True`) each is its own choice between yes and no, and the term is the mean over the
    classes of `weight * T^2 * KL( stop_gradient Bernoulli(p'_c) || Bernoulli(p_c) )`, `p_c = sigmoid(z_c(x) / T)`: the
    division into binary problems by which Yang et al. (ICCV 2023, https://arxiv.org/abs/2308.06453) distil from a
    teacher. Which image is a partner then no paper says: it is what the batch holds as one.

    Example, with `z(x) = [0, 0]` and `z(x') = [4 ln 3, 0]`, softened `[.75, .25]`, of divergence 0.130812; the second
    form has no factor 16:
        >>> views = {"image": [[0.0, 0.0]], "partner": [[4 * math.log(3), 0.0]]}
        >>> outputs = {name: {"logits": tf.constant(logits)} for name, logits in views.items()}
        >>> round(float(CSKD(temperature=4.0).terms({}, outputs, None)["class_wise"][0]), 5)
        2.09299
        >>> round(float(CSKD(temperature=4.0, form="iclr").terms({}, outputs, None)["class_wise"][0]), 6)
        0.130812

    Args:
        temperature: T, above 0.
        weight: of the class-wise term, at least 0.
        clean_weight: of the clean term, at least 0; 0: without, and without its pass.
        partners: how many partners each image has, drawn independently; the term is the mean over them. The paper has
            one; each costs one forward pass.
        in_batch: pairs from the batch in place of partners beside it.
        partner_batch_norm: of the partners' pass: `"train"`, as published, `"train_no_update"` or `"inference"`.
        form: `"cvpr"` or `"iclr"`.

    Raises:
        UserError: an argument out of range, or several partners in the batch.
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        weight: float = 1.0,
        clean_weight: float = 0.0,
        partners: int = 1,
        in_batch: bool = False,
        partner_batch_norm: BatchNormMode = "train",
        form: str = "cvpr",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.temperature = check_number("temperature", temperature, positive=True)
        self.weight = check_number("weight", weight, positive=False)
        self.clean_weight = check_number("clean_weight", clean_weight, positive=False)
        partners = check_count("partners", partners)
        check_flag("in_batch", in_batch)
        if in_batch and (partners, partner_batch_norm) != (1, "train"):
            raise UserError(
                "Expected in_batch pairs alone: they have one partner and one pass. "
                f"Received: {partners=}, {partner_batch_norm=}"
            )
        self.form = check_option("form", form, ("cvpr", "iclr"))
        self.pairs_adjacent = in_batch
        self.per_class = not in_batch  # which takes images of one class for pairs
        self._partners = () if in_batch else partner_views(partners)
        views = [View(name, gradient=False, batch_norm=partner_batch_norm) for name in self._partners]
        if self.clean_weight:
            views.append(View(CLEAN, gradient=form == "iclr"))
        self.views = tuple(views)
        self.term_names = ("class_wise", "sample_wise") if self.clean_weight else ("class_wise",)

    def terms(self, batch: dict, outputs: dict, targets: tf.Tensor) -> dict[str, tf.Tensor]:
        logits = outputs[IMAGE]["logits"]
        factor = self.temperature**2 if self.form == "cvpr" else 1.0
        if self.pairs_adjacent:
            teachers = [_neighbours(logits)]
        else:
            teachers = [outputs[name]["logits"] for name in self._partners]
        divergences = [self._divergence(tf.stop_gradient(teacher), logits) for teacher in teachers]
        terms = {"class_wise": self.weight * factor * tf.add_n(divergences) / len(divergences)}
        if self.clean_weight:
            clean = outputs[CLEAN]["logits"]
            clean = clean if self.form == "iclr" else tf.stop_gradient(clean)
            terms["sample_wise"] = self.clean_weight * factor * self._divergence(clean, logits)
        return terms

    def _divergence(self, teacher: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        return kl_divergence(teacher, logits, temperature=self.temperature)


def _neighbours(rows: tf.Tensor) -> tf.Tensor:
    """The other row of each row's pair: of rows a, b, c, d the rows b, a, d, c."""
    return tf.reshape(tf.reverse(tf.reshape(rows, (-1, 2, rows.shape[-1])), axis=[1]), (-1, rows.shape[-1]))
