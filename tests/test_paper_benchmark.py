"""The experiments of the paper, on small stand-ins for the fifteen data sets."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import stand_ins

from benchmarks.accuracy import peers
from benchmarks.paper import experiments, official, tasks
from benchmarks.paper.datasets import DATASETS, TARGETS, VARIANTS
from benchmarks.paper.official import InputError
from benchmarks.paper.results import Results
from benchmarks.paper.splits import ImageSet, read_images
from skcandle import clear_memory

TABLE = stand_ins.smaller(DATASETS)
WITH_SPLIT_FILE = [name for name, data in TABLE.items() if data.split_file]


@pytest.fixture(scope="module", autouse=True)
def torchvision_of_stand_ins():
    with pytest.MonkeyPatch.context() as patch:
        stand_ins.adapt_torchvision(patch)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All fifteen data sets. Tests must not change them."""
    return stand_ins.build_all(tmp_path_factory.mktemp("data"))


@pytest.fixture
def copy_of(root, tmp_path):
    """A function that copies folders of data sets to a new root."""

    def copy(*folders):
        for folder in folders:
            shutil.copytree(root / folder, tmp_path / "data" / folder)
        return tmp_path / "data"

    return copy


@pytest.fixture
def run(root, tmp_path):
    """A function that runs the command on the stand-ins, with options for a quick run."""

    def command(setting, *options, data=root, out="out.json"):
        quick = ["--model", "emoji-clip", "--shots", "2", "--ratio", "0.3", "--seeds", "1"]
        files = ["--out", str(tmp_path / out), "--cache", str(tmp_path / "embeddings")]
        fixed = ["--data", str(data), "--setting", setting, "--methods", "candle,zero-shot"]
        return experiments.main([*fixed, *quick, *files, *options], TABLE)

    return command


# --- the table of data sets --------------------------------------------------------------------


def test_there_are_fifteen_data_sets_of_known_size_and_source():
    numbers = [100, 37, 196, 102, 101, 100, 397, 47, 10, 101, 1000, 1000, 1000, 200, 200]
    assert [data.n_classes for data in DATASETS.values()] == numbers
    assert len(TARGETS) == 10 and len(VARIANTS) == 4
    assert [name for name, data in DATASETS.items() if data.ratio != 0.02] == ["ImageNet"]
    for data in DATASETS.values():
        assert "http" in data.source
        assert data.template.count("{}") == 1
        assert data.layouts[0].has_official


# --- official splits ---------------------------------------------------------------------------

NAMES = {
    "Caltech101": ["face", "motorbike", "accordion", "wild cat"],
    "OxfordPets": ["abyssinian", "american bulldog", "bengal", "wheaten terrier"],
    "StanfordCars": ["2012 Acura RL Sedan", "2012 Audi TT RS Coupe", "2012 BMW X3 SUV",
                     "2009 Ram C-V Van"],
    "Flowers102": ["pink primrose", "sweet pea", "rose", "lotus"],
    "Food101": ["apple pie", "beignets", "sushi", "waffles"],
    "FGVCAircraft": ["707-320", "Boeing 717", "DHC-8-100", "F-16A+B"],
    "SUN397": ["abbey", "outdoor apartment building", "bar", "youth hostel"],
    "DTD": ["banded", "dotted", "lined", "polka-dotted"],
    "EuroSAT": ["Annual Crop Land", "Forest", "Highway or Road", "River", "Sea or Lake"],
    "UCF101": ["Apply Eye Makeup", "Archery", "Handstand Pushups", "Yo Yo"],
    "ImageNet": ["tench", "goldfish", "great white shark"],
    "ImageNet-V2": ["tench", "goldfish", "great white shark"],
    "ImageNet-Sketch": ["tench", "goldfish", "great white shark"],
    "ImageNet-A": ["tench", "goldfish"],
    "ImageNet-R": ["tench", "goldfish"],
}  # fmt: skip


@pytest.mark.parametrize("name", TABLE)
def test_official_split_has_names_and_both_sides(root, name):
    images = read_images(TABLE[name], root)
    assert images.names == NAMES[name]
    assert images.split == TABLE[name].official_name
    n_train, n_test = stand_ins.N_TRAIN, stand_ins.N_TEST
    if "halves" in images.split:
        n_train = n_test = {"Caltech101": 3, "EuroSAT": 2}[name]
    if name in VARIANTS:
        n_train = 0
    n_classes = len(images.names)
    np.testing.assert_array_equal(
        np.bincount(images.y_train, minlength=n_classes), [n_train] * n_classes
    )
    np.testing.assert_array_equal(np.bincount(images.y_test), [n_test] * n_classes)
    assert not set(images.train) & set(images.test)


@pytest.mark.parametrize("name", ["SUN397", "FGVCAircraft", "UCF101", "Food101", "StanfordCars"])
def test_labels_match_the_images(root, name):
    images = read_images(TABLE[name], root)
    label = 2
    expected = stand_ins.encoded(label, range(stand_ins.N_IMAGES))
    found = [*images.train[images.y_train == label], *images.test[images.y_test == label]]
    assert sorted(Path(path).read_bytes() for path in found) == expected


def test_classes_of_imagenet_v2_follow_the_wordnet_ids(root):
    assert read_images(TABLE["ImageNet-V2"], root).ids == list(stand_ins.IMAGENET)


# --- split files -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH_SPLIT_FILE)
def test_split_file_is_preferred_in_every_layout(root, tmp_path, name):
    data = TABLE[name]
    official = read_images(data, root)
    first = data.layouts[0]
    for layout in data.layouts:
        new_root = tmp_path / layout.folder.replace("/", "-")
        folder = new_root / layout.folder
        shutil.copytree(root / first.folder / first.images, folder / layout.images)
        stand_ins.write_split_file(
            official, root / first.folder / first.images, folder / data.split_file
        )
        images = read_images(data, new_root)
        assert images.split == data.split_file
        assert images.names == official.names
        for side in ("train", "test"):
            assert [Path(path).read_bytes() for path in getattr(images, side)] == [
                Path(path).read_bytes() for path in getattr(official, side)
            ]
        np.testing.assert_array_equal(images.y_train, official.y_train)


@pytest.fixture
def pets_split(copy_of):
    """A function that edits a split file of the pets and reads the data set."""
    root = copy_of("oxford-iiit-pet")
    folder = root / "oxford-iiit-pet"
    path = folder / "split_zhou_OxfordPets.json"
    stand_ins.write_split_file(read_images(TABLE["OxfordPets"], root), folder / "images", path)

    def change(edit):
        parts = json.loads(path.read_text())
        edit(parts)
        path.write_text(json.dumps(parts))
        return read_images(TABLE["OxfordPets"], root)

    return change


def test_split_file_that_names_a_missing_image(pets_split):
    def edit(parts):
        parts["train"][0][0] = "Abyssinian_999.jpg"

    with pytest.raises(
        InputError,
        match=r"OxfordPets: the split split_zhou_OxfordPets.json lists .*Abyssinian_999.jpg, which "
        r"does not exist \(1 of 24 images are missing\)\. Unpack images.tar.gz .*pet, or get",
    ):
        pets_split(edit)


@pytest.mark.parametrize("side, words", [("train", "training"), ("test", "test")])
def test_class_without_images_in_the_split(pets_split, side, words):
    def edit(parts):
        parts[side] = [row for row in parts[side] if row[1] != 2]

    with pytest.raises(InputError, match=rf"class 'bengal' \(label 2\) has no {words} image in"):
        pets_split(edit)


def test_label_that_no_image_has(pets_split):
    def edit(parts):
        for side in ("train", "test"):
            parts[side] = [[image, label + (label > 1), name] for image, label, name in parts[side]]

    with pytest.raises(InputError, match="has 4 classes, but 5 in .*partly unpacked or contains"):
        pets_split(edit)


def test_split_file_that_is_cut_off(copy_of):
    root = copy_of("oxford-iiit-pet")
    (root / "oxford-iiit-pet" / "split_zhou_OxfordPets.json").write_text('{"train": [["Aby')
    with pytest.raises(InputError, match=r"is not a split file .* Get it again from http.*remove"):
        read_images(TABLE["OxfordPets"], root)


# --- what is missing on disk -------------------------------------------------------------------


@pytest.mark.parametrize("name", TABLE)
def test_the_error_for_a_missing_data_set_names_source_and_folder(tmp_path, name):
    data = TABLE[name]
    with pytest.raises(InputError) as caught:
        read_images(data, tmp_path)
    message = str(caught.value)
    assert message.startswith(f"{name} is not in {tmp_path}: unpack {data.source} to create")
    assert message.endswith(f"{tmp_path / data.layouts[0].folder / data.layouts[0].images}.")
    assert list(tmp_path.iterdir()) == []  # nothing was downloaded or created


@pytest.mark.parametrize(
    "name, folder, removed, message",
    [
        ("OxfordPets", "oxford-iiit-pet", "images", "pet has no images. Unpack images.tar.gz"),
        ("OxfordPets", "oxford-iiit-pet", "annotations", "no annotations/trainval.txt. Unpack"),
        ("OxfordPets", "oxford-iiit-pet", "images/american_bulldog_1.jpg", r"\(1 of 24 images"),
        ("StanfordCars", "stanford_cars", "cars_test", "has no cars_test. Unpack cars_train.tgz"),
        ("Flowers102", "flowers-102", "setid.mat", "has no setid.mat. Unpack 102flowers.tgz"),
        ("Food101", "food-101", "images/sushi", r"lists .*0.jpg, which does not exist \(6 of 24"),
        ("SUN397", "SUN397", "Testing_01.txt", "SUN397 has no Testing_01.txt. Unpack Partitions"),
        ("SUN397", "SUN397", "ClassName.txt", "cannot be read .*ClassName.txt.* Unpack SUN397.tar"),
        ("EuroSAT", "eurosat", "2750/River", "has 5 classes, but 4 in .* Unpack EuroSAT.zip"),
        ("Caltech101", "caltech101", "101_ObjectCategories/accordion", "has 4 classes, but 3"),
        ("UCF101", "ucf101", "ucfTrainTestlist", "no ucfTrainTestlist/classInd.txt. .*, or put sp"),
        ("ImageNet", "imagenet", "val", "val has no sub-folders, but must have one per class"),
        ("ImageNet", "imagenet", "val/n01443537", "different classes, such as 'n01443537'. Unpack"),
        ("ImageNet", "imagenet", "classnames.txt", "The ImageNet classes have no names: put class"),
        ("ImageNet", "imagenet", "train/n01440764/*", "'n01440764'.* has no training image"),
    ],
)  # fmt: skip
def test_the_error_for_a_partly_unpacked_data_set_names_what_is_missing(
    copy_of, name, folder, removed, message
):
    root = copy_of(folder)
    for path in list((root / folder).glob(removed)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(InputError, match=message):
        read_images(TABLE[name], root)


def test_folder_of_a_variant_that_imagenet_does_not_know(copy_of):
    root = copy_of("imagenet", "imagenet-rendition")
    folder = root / "imagenet-rendition/imagenet-r"
    (folder / "n01443537").rename(folder / "n99999999")
    with pytest.raises(InputError, match="'n99999999' is not an ImageNet class listed in classn"):
        read_images(TABLE["ImageNet-R"], root)


def test_imagenet_v2_without_some_folders(copy_of):
    root = copy_of("imagenet", "imagenetv2")
    shutil.rmtree(root / "imagenetv2/imagenetv2-matched-frequency-format-val/1")
    with pytest.raises(InputError, match="has 2 folders, but there are 3 classes, and folders"):
        read_images(TABLE["ImageNet-V2"], root)


def test_names_of_a_whole_imagenet_need_no_file(tmp_path):
    for number in range(1000):
        (tmp_path / f"imagenet/train/n{number:08d}").mkdir(parents=True)
    names = official.imagenet_names(tmp_path)
    assert names["n00000000"] == "tench" and names["n00000999"] == "toilet paper"


def test_layout_that_only_a_split_file_can_read(copy_of):
    root = copy_of("oxford-iiit-pet")
    (root / "oxford-iiit-pet").rename(root / "oxford_pets")
    with pytest.raises(InputError, match="oxford_pets has no split_zhou_OxfordPets.json. Put it"):
        read_images(TABLE["OxfordPets"], root)


# --- the protocol ------------------------------------------------------------------------------


def images_of(counts, name="OxfordPets"):
    """Images that do not exist on disk, with ``counts`` training images of each class."""
    y = np.repeat(np.arange(len(counts)), counts)
    paths = np.array([f"{i}.jpg" for i in range(len(y))], dtype=object)
    names = [f"class {label}" for label in range(len(counts))]
    return ImageSet(DATASETS[name], "a split", names, names, paths, y, paths[:0], y[:0])


@pytest.mark.parametrize("n_classes, n_base", [(37, 19), (10, 5)])
def test_the_first_half_of_the_classes_is_base(n_classes, n_base):
    assert tasks.n_base_classes("long-tail", n_classes) == n_base
    assert tasks.n_base_classes("few-shot", n_classes) == n_classes


def test_shots_are_drawn_from_base_classes_by_seed():
    images = images_of([20, 30, 16, 5])
    drawn = tasks.draw_training(images, 3, seed=1, shots=16)
    np.testing.assert_array_equal(np.bincount(images.y_train[drawn]), [16, 16, 16])
    np.testing.assert_array_equal(drawn, tasks.draw_training(images, 3, seed=1, shots=16))
    assert not np.array_equal(drawn, tasks.draw_training(images, 3, seed=2, shots=16))


def test_tail_falls_from_the_largest_class_of_at_most_a_hundred_images():
    images = images_of([60, 150, 40, 120, 999])
    drawn = tasks.draw_training(images, 4, seed=1, ratio=0.02)
    # 100 * 0.02 ** (i / 3) over the classes 1 and 3, of 100 images after the cap, then 0 and 2
    np.testing.assert_array_equal(np.bincount(images.y_train[drawn]), [7, 100, 2, 27])


def test_tail_of_small_classes_starts_from_the_largest():
    images = images_of([10, 40, 20])
    drawn = tasks.draw_training(images, 3, seed=1, ratio=0.1)
    np.testing.assert_array_equal(np.bincount(images.y_train[drawn]), [4, 40, 12])


def test_shots_above_the_size_of_a_class():
    message = r"OxfordPets: the class 'class 1' has 9 training .* Choose --shots 9 or fewer\."
    with pytest.raises(InputError, match=message):
        tasks.draw_training(images_of([20, 9, 12]), 3, seed=1, shots=16)


def test_base_and_new_accuracy_are_over_images_in_separate_spaces():
    scores = np.array([[3.0, 1, 9], [3, 1, 0], [1, 3, 0], [3, 1, 9], [9, 0, 1]])
    measured = tasks.evaluate_base_new(scores, np.array([0, 0, 0, 1, 2]), n_base=2)
    assert measured["base"] == pytest.approx(2 / 4)
    assert measured["new"] == 1
    assert measured["H"] == pytest.approx(2 / 3)
    # joint: class-balanced 1/3 and 0 over base, 0 over new
    assert measured["H_joint"] == 0


def test_predictions_may_be_limited_to_some_classes():
    scores = np.array([[9.0, 1, 2, 3], [9, 3, 2, 1]])
    measured = tasks.evaluate_among(scores, np.array([3, 3]), np.array([1, 3]))
    assert measured["accuracy"] == 0.5


# --- the command -------------------------------------------------------------------------------


@pytest.mark.slow
def test_base_to_new_on_all_data_sets(run, tmp_path):
    results = run("base-to-new")
    assert {key[0] for key in results.cells} == {"ImageNet", *TARGETS}
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["setup"]["shots"] == 2 and "ratio" not in record["setup"]
    assert len(record["cells"]) == 11 * 2
    measured = {"base", "new", "H", "H_joint", "AUSUC", "ECE", "seconds"}
    assert all(cell["measured"].keys() == measured for cell in record["cells"])
    assert [row["data set"] for row in record["table"][-2:]] == ["average of 11"] * 2
    text = (tmp_path / "out.md").read_text()
    assert "| UCF101 | official: list 1 | candle | 1 |" in text
    assert text.rstrip().splitlines()[-1].startswith("| average of 11 |  | zero_shot | 1 |")
    assert sorted(path.name for path in (tmp_path / "embeddings").iterdir()) == sorted(
        {"ImageNet", *TARGETS}
    )


@pytest.mark.slow
def test_every_method_runs_in_every_setting_of_imagenet(run):
    options = ["--datasets", "ImageNet", "DTD", "--methods", "paper,nearest-class-mean,tip-adapter"]
    cross = run("cross-dataset", *options, out="cross.json")
    assert len(cross.cells) == 6
    average = [row for row in cross.rows() if row["data set"] == "average of 1"]
    assert [row["accuracy"] for row in average] == [
        cross.cells["DTD", row["method"], 1]["accuracy"] for row in average
    ]
    domain = run("domain", out="domain.json")
    assert {key[0] for key in domain.cells} == {"ImageNet", *VARIANTS}


@pytest.fixture
def zero_shot_tasks(monkeypatch):
    """A list to which the method zero_shot appends its tasks."""
    found = []

    def recorded(task):
        found.append(task)
        return peers.zero_shot(task)

    monkeypatch.setitem(experiments.METHODS, "zero_shot", recorded)
    return found


@pytest.mark.parametrize("setting", ["long-tail", "few-shot"])
def test_seeds_draw_other_images(run, setting, zero_shot_tasks):
    run(setting, "--datasets", "Food101", "--methods", "zero-shot", "--seeds", "4")
    assert len(zero_shot_tasks) == 4
    assert len({task.X.tobytes() for task in zero_shot_tasks}) > 1


def test_training_images_of_a_task_are_those_of_its_base_classes(run, zero_shot_tasks):
    options = ["--datasets", "Food101", "--methods", "zero-shot"]
    run("base-to-new", *options)
    run("few-shot", *options, out="few.json")
    run("cross-dataset", *options, "--balanced", out="cross.json")
    base_new, few, cross = zero_shot_tasks
    np.testing.assert_array_equal(base_new.y, [0, 0, 1, 1])
    assert base_new.n_base == 2 and len(base_new.T) == 4
    np.testing.assert_array_equal(few.y, np.repeat(range(4), 2))
    np.testing.assert_array_equal(cross.y, np.repeat(range(3), 2))
    assert cross.n_base == 3 and len(cross.T) == 7
    np.testing.assert_array_equal(cross.y_test, np.repeat([3, 4, 5, 6], 2))


def test_finished_cells_are_not_run_again(run, monkeypatch, encoded):
    options = ["--datasets", "Food101,DTD"]
    first = run("few-shot", *options)
    encoded.clear()
    monkeypatch.setitem(experiments.METHODS, "candle", None)  # must not be called
    monkeypatch.setitem(experiments.METHODS, "zero_shot", None)
    again = run("few-shot", *options)
    assert again.cells == first.cells
    assert encoded == []


def test_interrupted_run_goes_on(run, monkeypatch):
    def stopped(task):
        raise KeyboardInterrupt

    options = ["--datasets", "Food101", "--methods", "zero-shot,candle"]
    with monkeypatch.context() as patch:
        patch.setitem(experiments.METHODS, "candle", stopped)
        with pytest.raises(KeyboardInterrupt):
            run("few-shot", *options)
    monkeypatch.setitem(experiments.METHODS, "zero_shot", None)  # finished: must not be called
    assert len(run("few-shot", *options).cells) == 2


def test_more_methods_and_seeds_can_be_added(run):
    run("few-shot", "--datasets", "Food101", "--methods", "zero-shot")
    results = run("few-shot", "--datasets", "Food101", "DTD", "--seeds", "2")
    assert len(results.cells) == 2 * 2 * 2


def test_embeddings_come_from_the_cache(run, encoded):
    run("few-shot", "--datasets", "Food101", out="a.json")
    assert sum(encoded) == 8 + 8
    encoded.clear()
    clear_memory()
    run("long-tail", "--datasets", "Food101", out="b.json")
    assert sum(encoded) <= 8  # training images that the first run did not draw


@pytest.mark.parametrize(
    "options, message",
    [
        (
            ["--shots", "3"],
            "contains results for shots=2, but this run has shots=3. Choose another",
        ),
        (["--model", "RN50"], "results for model='emoji-clip', but this run has model='RN50'"),
    ],
)
def test_output_of_another_setting(run, options, message):
    run("few-shot", "--datasets", "DTD", "--methods", "zero-shot")
    with pytest.raises(SystemExit, match=message):
        run("few-shot", "--datasets", "DTD", "--methods", "zero-shot", *options)


def test_output_of_another_kind_of_setting(run):
    run("few-shot", "--datasets", "DTD", "--methods", "zero-shot")
    with pytest.raises(SystemExit, match="out.json contains results for .*Choose another --out"):
        run("long-tail", "--datasets", "DTD", "--methods", "zero-shot")


def test_output_of_another_split(run, copy_of):
    data = copy_of("oxford-iiit-pet")
    options = ["--datasets", "OxfordPets", "--methods", "zero-shot"]
    run("few-shot", *options, data=data)
    folder = data / "oxford-iiit-pet"
    images = read_images(TABLE["OxfordPets"], data)
    stand_ins.write_split_file(images, folder / "images", folder / TABLE["OxfordPets"].split_file)
    with pytest.raises(
        SystemExit, match="the split 'official: .*', but the split is now 'split_zhou_Ox"
    ):
        run("few-shot", *options, data=data)


def test_output_that_is_something_else(run, tmp_path):
    (tmp_path / "out.json").write_text('{"rows": []}')
    with pytest.raises(
        SystemExit, match="out.json does not contain results of this command. Choose"
    ):
        run("few-shot", "--datasets", "DTD")
    assert (tmp_path / "out.json").read_text() == '{"rows": []}'


@pytest.mark.parametrize(
    "options, message",
    [
        (["--datasets", "oxfordpet"], "Unknown data set 'oxfordpet'. Did you mean OxfordPets"),
        (["--datasets", "DTD,zebra"], "Unknown data set 'zebra'. Choose from Caltech101, Oxf"),
        (
            ["--datasets", "ImageNet-A"],
            "ImageNet-A does not belong to the setting few-shot, which uses",
        ),
        (["--methods", "zero-shoot"], "Unknown method 'zero_shoot'. Did you mean zero_shot"),
        (
            ["--shots", "5"],
            "ImageNet: the class 'tench' has 4 training .* Choose --shots 4 or fewer",
        ),
    ],
)
def test_names_and_numbers_that_do_not_fit(run, options, message):
    with pytest.raises(SystemExit, match=message):
        run("few-shot", *options)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--data", "nowhere"], "--data is nowhere, which is not a folder. See bench"),
        (["--shots", "0"], "--shots is 0, but must be at least 1"),
        (["--seeds", "0"], "--seeds is 0, but must be at least 1"),
        (["--ratio", "2"], "--ratio is 2.0, but must be above 0 and at most 1"),
        (["--out", "results"], "--out is results, but must be the name of a .json file"),
    ],
)
def test_options_out_of_range(run, options, message, capsys):
    with pytest.raises(SystemExit):
        run("few-shot", *options)
    assert message in capsys.readouterr().err


def test_all_missing_data_sets_are_named_at_once(run, copy_of):
    with pytest.raises(SystemExit) as caught:
        run("few-shot", "--datasets", "DTD,Food101,EuroSAT", data=copy_of("food-101"))
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines] == ["DTD", "EuroSAT"]


# --- tables ------------------------------------------------------------------------------------


def test_averages_are_over_data_sets_and_h_is_of_the_averages(tmp_path):
    results = Results(tmp_path / "a.json", {"setting": "base-to-new"}, ("base", "new", "H"))
    for name, base in (("DTD", 0.2), ("EuroSAT", 0.6)):
        results.check_split(name, "official")
        for seed, new in ((1, 0.3), (2, 0.5)):
            results.add((name, "candle", seed), {"base": base, "new": new, "H": 0.0})
    dtd, eurosat, average = results.rows()
    assert dtd["seeds"] == 2
    assert (dtd["base"], dtd["new"]) == pytest.approx((0.2, 0.4))
    assert dtd["H"] == pytest.approx(2 * 0.2 * 0.4 / 0.6)
    assert average["data set"] == "average of 2"
    assert (average["base"], average["H"]) == pytest.approx((0.4, 0.4))
    assert (
        Results(tmp_path / "a.json", {"setting": "base-to-new"}, ("base",)).cells == results.cells
    )
