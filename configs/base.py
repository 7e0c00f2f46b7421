"""Every key of a config, with its default and its unit. An experiment imports this file and changes a few lines."""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The CS-KD paper's recipe for small images, without data; its configs also set the crop and hold nothing out."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, order, partners and augmentation
    config.epochs = 200
    config.batch_size = 128  # images a step over all replicas; partners come on top
    config.precision = "float32"  # or mixed_bfloat16, mixed_float16
    config.strategy = "single"  # one device; "mirrored": all GPUs of this machine; "tpu"
    config.deterministic = True  # the same bytes from the same seed; some GPU kernels are slower then
    config.baseline = False  # train the same run without methods too, in WORKDIR/cross_entropy
    config.verbose = 1  # Keras' progress bar: 0 silent, 1 bar, 2 one line an epoch

    # One entry a method: its class in cskd_tf.methods, and its arguments. Empty: plain cross-entropy.
    config.methods = ()

    config.data = ConfigDict()
    # One of cskd_tf.data.DATASETS, "tfds:NAME" for any of TensorFlow Datasets', or several joined by "+".
    config.data.name = ""
    config.data.path = ""  # of an image folder, or of the folder where TFDS keeps data sets ("": ~/tensorflow_datasets)
    config.data.archive = ""  # for tiny_imagenet and mit67: an archive other than the published one
    config.data.channels = 3  # 3 colour, 1 grey
    config.data.class_levels = 1  # levels of an image folder's folders that make a class
    config.data.train_split = ""  # the data set's own name of it, in TFDS' notation or of a folder; "": as usual
    config.data.val_split = ""
    config.data.test_split = ""
    config.data.split_seed = 0  # of the splits that the data set does not bring itself
    config.data.test_fraction = 0.2  # of each class, where there is no test split
    # Of each class of the training images, where there is no validation split. 0: train on all of them; then the test
    # split is evaluated each epoch and nothing is chosen by it, as in the papers.
    config.data.validation_fraction = 0.1
    config.data.train_per_class = 0  # keep this many training images a class; 0: all
    config.data.balanced = False  # show all classes equally often in training, whatever their sizes
    config.data.exclude_self = False  # never pair an image with itself; the papers do
    config.data.replica_local = False  # partners from the part of the data that the same replica sees
    config.data.memory = 4.0  # GiB at most for images held in memory; what does not fit is read as it is needed
    config.data.image_size = 32  # pixels, of the square that the network sees
    config.data.crop = "pad_crop"  # in training: pad_crop, random_resized_crop, none
    config.data.padding = 4  # pixels of zeros on each side before pad_crop
    config.data.flip = True  # mirror half of the training images
    config.data.color_jitter = 0.0  # brightness, contrast and saturation of training images change by up to this share
    config.data.lighting = 0.0  # standard deviation of AlexNet's colour noise on training images
    config.data.short_side = 0  # pixels; at evaluation resize to this, then crop the centre; 0: image_size
    config.data.mean = (0.4914, 0.4822, 0.4465)  # a channel, of pixels in [0, 1]
    config.data.std = (0.2023, 0.1994, 0.2010)

    config.network = ConfigDict()
    config.network.name = "preact_resnet18"  # one of cskd_tf.networks.NETWORKS, or package.module:function of your own
    config.network.width = 0  # channels of the first stage; 0: as published
    config.network.embedding_layer = ""  # whose input is the embedding; "": the classifier, found by itself
    config.network.synchronized = False  # batch norm over all replicas

    config.optimizer = ConfigDict()  # SGD as PyTorch means it
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-4  # added to the gradient, on every parameter
    config.optimizer.nesterov = False
    config.optimizer.clip_norm = 0.0  # of all gradients together; 0: any. 1 keeps a weight of 3 from running to NaN

    config.schedule = ConfigDict()
    config.schedule.learning_rate = 0.1
    config.schedule.milestones = (0.5, 0.75)  # fractions of the epochs, at which the rate is multiplied
    config.schedule.factor = 0.1
    config.schedule.warmup_epochs = 0  # over which the rate rises from nothing

    config.evaluation = ConfigDict()
    config.evaluation.batch_size = 256  # images
    config.evaluation.ece_bins = 20  # as in the CS-KD paper; PS-KD has 10, most libraries 15

    config.export = ConfigDict()
    config.export.enabled = True
    config.export.directory = "saved_models"
    return config
