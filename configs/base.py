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

    config.data = ConfigDict()

    config.data.source = ConfigDict()  # where the images are from
    # One of cskd_tf.data.DATASETS, "tfds:NAME" for any of TensorFlow Datasets', or several joined by "+".
    config.data.source.name = ""
    # An image folder, or the folder in which TFDS keeps data sets ("": ~/tensorflow_datasets).
    config.data.source.path = ""
    config.data.source.archive = ""  # for tiny_imagenet and mit67: an archive other than the published one
    config.data.source.channels = 3  # 3 colour, 1 grey
    config.data.source.class_levels = 1  # how many levels of an image folder's folders make a class
    config.data.source.memory = 4.0  # GiB at most for images held in memory; the others are read as they are needed

    config.data.split = ConfigDict()  # which images are for training, validation and test
    # The data set's own names of its splits, as TFDS writes them or as folders are called; "": the usual ones.
    config.data.split.train = ""
    config.data.split.val = ""
    config.data.split.test = ""
    config.data.split.seed = 0  # of the images that the next three keys choose
    config.data.split.test_fraction = 0.2  # of each class, taken where the data set has no test split
    # Of each class of the training images, taken where the data set has no validation split. 0: train on all of them;
    # then the test split is evaluated each epoch and nothing is chosen by it, as in the papers.
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
    config.data.augment.short_side = 0  # pixels; at evaluation resize to this, then crop the centre; 0: image_size
    config.data.augment.mean = (0.4914, 0.4822, 0.4465)  # per channel, of pixels in [0, 1]
    config.data.augment.std = (0.2023, 0.1994, 0.2010)

    config.data.pairing = ConfigDict()  # which image becomes whose partner
    config.data.pairing.balanced = False  # show all classes equally often in training, whatever their sizes
    config.data.pairing.exclude_self = False  # never pair an image with itself; the papers do
    config.data.pairing.replica_local = False  # partners from the part of the data that the same replica sees

    config.network = ConfigDict()
    config.network.name = "preact_resnet18"  # one of cskd_tf.networks.NETWORKS, or package.module:function of your own
    config.network.width = 0  # channels of the first stage, at most 512; 0: as published
    config.network.embedding_layer = ""  # the layer whose input is the embedding; "": the classifier, found by itself
    config.network.synchronized = False  # batch norm averages over all replicas, not over each by itself

    config.optimizer = ConfigDict()  # SGD as PyTorch means it
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4  # added to the gradient, on every parameter
    config.optimizer.nesterov = False
    # Longest norm of all gradients together; 0: any. With 1, CS-KD at a weight of 3 does not run to NaN.
    config.optimizer.clip_norm = 0.0

    config.schedule = ConfigDict()
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (0.5, 0.75)  # fractions of the run, at which the rate is multiplied by `factor`
    config.schedule.factor = 0.1
    config.schedule.warmup_epochs = 0  # epochs over which the rate rises from nothing

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 256  # images per step
    config.evaluation.ece_bins = 20  # bins of confidence; 20 as in the CS-KD paper; PS-KD has 10, most libraries 15

    config.export = ConfigDict()
    config.export.enabled = True  # write a SavedModel when the run has finished
    config.export.directory = "saved_models"  # below which each workdir has its versions
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
