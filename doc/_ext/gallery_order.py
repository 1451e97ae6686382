"""The order of the examples in each group, from first steps to special topics."""

ORDER = [
    "quickstart",
    "your_folder",
    "photographs",
    "new_classes",
    "label_life",
    "long_tail",
    "unlabeled",
    "grid_search",
    "prediction_sets",
    "none_of_these",
    "unlabeled_search",
    "label_errors",
    "own_encoder",
    "persistence",
    "sharing",
    "web_service",
    "scale_out",
]


class GalleryOrder:
    """Sort key for the files of a folder; unlisted files come last."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, filename):
        name = filename.removeprefix("plot_").removesuffix(".py")
        return ORDER.index(name) if name in ORDER else len(ORDER), name
