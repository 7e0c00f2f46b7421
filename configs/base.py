"""Every key of a config, with its default and its unit. An experiment imports this file and changes a few lines."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The CS-KD paper's recipe for small images, without a data set to train on.

    The paper's own configs also train on all images, and crop at random sizes.
    """
    config = ConfigDict()
    config.seed = 0  # of first weights, order, partners and augmentation
    config.epochs = 200
    config.batch_size = 128  # images per step over all replicas; their partners are not counted
    # Compute each batch in so many parts, one after another, and add up their gradients: the same step in less memory.
    config.gradient_accumulation_steps = 1
    config.steps_per_execution = 1  # steps at a time in TensorFlow, without Python between; has to divide an epoch's
    # Or mixed_bfloat16, mixed_float16. auto: mixed_bfloat16 where the hardware multiplies it faster, measured at the
    # start; a run goes on with the one that it began with.
    config.precision = "float32"
    # The training step by XLA: on, off. auto: on a GPU, unless there are several, or `deterministic` keeps it off.
    config.jit_compile = "auto"
    # single: one device; mirrored: all GPUs of this machine; multi_worker: those of the machines that TF_CONFIG names;
    # tpu; auto: the workers of TF_CONFIG, or else the GPUs of this machine.
    config.strategy = "auto"
    config.deterministic = True  # the same bytes from the same seed; some GPU kernels are slower then
    config.baseline = False  # train the same run without methods too, in WORKDIR/cross_entropy
    # Every so many epochs, and after the last, one more pass over the training images, which writes how probable label
    # and prediction of each one are to WORKDIR/image_log, 5 bytes per image; 0: never.
    config.log_images = 0
    # 0: nothing of the epochs; 1: a line for each, and on a terminal a bar with the time left; 2: the lines alone.
    config.verbose = 1
    # Further places for the log: wandb, mlflow; whoever asks for one has to install it.
    config.loggers = ()
    config.profile_steps = 0  # profile so many training steps for TensorBoard, soon after the start; 0: none

    # One mapping per method: its class in cskd_tf.methods as "name", and its arguments. Empty: plain cross-entropy.
    config.methods = ()

    config.class_weights = ConfigDict()  # of classes that come more or less often than others
    # inverse: N / (C * n) for a class of n images, of C classes and N images; effective: (1 - beta) / (1 - beta^n), by
    # the effective number of images, 1 for a class on average; "": every image weighs the same.
    config.class_weights.scheme = ""
    config.class_weights.beta = 0.999

    config.data = ConfigDict()

    config.data.source = ConfigDict()  # where the images are from
    # One of cskd_tf.data.DATASETS, "tfds:NAME" for any of TensorFlow Datasets', or several joined by "+".
    config.data.source.name = ""
    # An image folder, a CSV file of paths and labels, the folder of Fashion-MNIST's files, or that in which TFDS keeps
    # data sets ("": ~/tensorflow_datasets).
    config.data.source.path = ""
    config.data.source.archive = ""  # for tiny_imagenet and mit67: an archive other than the published one
    config.data.source.channels = 3  # 3 colour, 1 grey
    config.data.source.class_levels = 1  # how many levels of an image folder's folders make a class
    config.data.source.groups = ""  # a file of lines class<TAB>group; "": the groups that the data set brings
    # Of the images, in your own words, for the card of an export; "": that which is known of the data set.
    config.data.source.licence = ""
    config.data.source.memory = 4.0  # GiB at most for images held in memory; the others are read as they are needed

    config.data.split = ConfigDict()  # which images are for training, validation and test
    # The data set's own names of its splits, as TFDS writes them or as folders are called; "": the usual ones.
    config.data.split.train = ""
    config.data.split.val = ""
    config.data.split.test = ""
    config.data.split.seed = 0  # of the images that the next three keys choose
    config.data.split.test_fraction = 0.2  # of each class, taken where the data set has no test split
    # Of each class of the training images, taken where the data set has no validation split. 0: train on all of them;
    # then the test split is evaluated each epoch, and nothing is chosen by it. One that it brings stays.
    config.data.split.validation_fraction = 0.1
    config.data.split.train_per_class = 0  # keep this many training images per class; 0: all

    config.data.augment = ConfigDict()  # how images are made to fit the network, and changed in training
    config.data.augment.image_size = 32  # pixels, of the square that the network sees
    config.data.augment.crop = "pad_crop"  # in training: pad_crop, random_resized_crop, none
    config.data.augment.padding = 4  # pixels of zeros on each side, before pad_crop
    config.data.augment.flip = True  # mirror half of the training images
    # Brightness, contrast and saturation of training images change by up to this share.
    config.data.augment.color_jitter = 0.0
    config.data.augment.lighting = 0.0  # standard deviation of AlexNet's colour noise on training images
    # Keras layers in training, on pixels from 0 to 255, after crop and flip: as "name" one of keras.layers that change
    # images, such as {"name": "RandAugment", "num_ops": 2, "factor": 0.3}, and its arguments.
    config.data.augment.layers = ()
    config.data.augment.short_side = 0  # pixels; at evaluation resize to this, then crop the centre; 0: image_size
    config.data.augment.mean = (0.4914, 0.4822, 0.4465)  # per channel, of pixels in [0, 1]
    config.data.augment.std = (0.2023, 0.1994, 0.2010)

    config.data.pairing = ConfigDict()  # which image becomes whose partner
    config.data.pairing.balanced = False  # show all classes equally often in training, whatever their sizes
    config.data.pairing.exclude_self = False  # pair an image with itself only where it is alone in its class
    config.data.pairing.replica_local = False  # partners from the part of the data that the same replica sees

    config.network = ConfigDict()
    config.network.name = "preact_resnet18"  # one of cskd_tf.networks.NETWORKS, or package.module:function of your own
    # Weights to begin with: a .keras file, such as a run's classifier.keras, or its folder; a .weights.h5 or .h5 file.
    # random: none, also of a network that has some by itself. "": those it has by itself.
    config.network.weights = ""
    config.network.width = 0  # channels of the first stage, at most 512; 0: as published
    config.network.embedding_layer = ""  # the layer whose input is the embedding; "": the classifier, found by itself
    config.network.synchronized = False  # batch norm averages over all replicas, not over each by itself
    # Train the classifier alone for so many epochs, and then all; docs/runs.md says what it means for batch norm.
    config.network.frozen_epochs = 0

    config.optimizer = ConfigDict()
    # SGD as PyTorch means it, or any other of Keras': AdamW, Lion, Muon, ..., which take another learning rate.
    config.optimizer.name = "SGD"
    config.optimizer.arguments = ConfigDict()  # of those others, as {"beta_2": 0.98}; the rest as Keras has them
    config.optimizer.momentum = 0.9  # of SGD
    config.optimizer.nesterov = False  # of SGD
    # SGD adds it to the gradient; others take it off the weights, times the learning rate (decoupled).
    config.optimizer.weight_decay = 1e-4
    config.optimizer.decay_vectors = True  # whether biases and normalisation are decayed too
    # Longest norm of all gradients together; 0: any. With 1, CS-KD at a weight of 3 ends at half of the loss.
    config.optimizer.clip_norm = 0.0
    config.optimizer.layer_decay = 1.0  # factor of the learning rate for each block further from the classifier
    # Evaluate and export a running average of the weights, of which each step keeps this share; 0: the weights.
    config.optimizer.ema_momentum = 0.0

    config.schedule = ConfigDict()
    config.schedule.name = "step"  # or cosine, down to nothing at the end, or constant
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (0.5, 0.75)  # of step: parts of the run, at which the rate is multiplied by `factor`
    config.schedule.factor = 0.1
    config.schedule.warmup_epochs = 0  # epochs over which the rate rises from nothing

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 256  # images per step
    config.evaluation.ece_bins = 20  # bins of confidence; 20 as in the CS-KD paper; PS-KD has 10, most libraries 15

    config.export = ConfigDict()
    config.export.enabled = True  # write a SavedModel when the run has finished
    config.export.directory = "saved_models"  # below which each workdir has its versions
    # auto: logits are divided by the temperature that fits the validation images best; off: they are as they are.
    config.export.temperature = "auto"
    # Share of images whose conformal set is to hold their class, by the validation images; 0: no sets.
    config.export.coverage = 0.9
    # For other runtimes, beside the SavedModel: onnx, litert, litert_int8, openvino, web. Each has packages of its own.
    config.export.formats = ()
    config.export.opset = 17  # of ONNX, 13 to 18; older runtimes may need an older one
    return config


def with_sweep(config: ConfigDict, *, experiments, grid, choose="") -> ConfigDict:
    """A config that stands for several: what `--mode=sweep` trains, and no other mode takes.

    Args:
        config: of the first experiment, of which the command line overrides keys for all.
        experiments: what `get_config` of the same file takes, for each.
        grid: as `--grid` has it, for each axis; the command line's replace them.
        choose: the metric of `--choose`; empty: none.
    """
    config.sweep = ConfigDict({"experiments": tuple(experiments), "grid": tuple(grid), "choose": choose})
    return config
