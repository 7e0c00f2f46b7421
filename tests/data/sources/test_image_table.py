"""CSV files of images: in every form that spreadsheets write, and what is wrong in which line."""

import os

import pytest

from cskd_tf.data import ImageTable
from tests.data.helpers import encoded, photo, write
from tests.helpers import load_splits

GOOD = "path,label\na.png,dog\nb.jpg,cat\n"


@pytest.fixture
def table(tmp_path):
    """Writes a CSV file beside six images; returns its path."""
    for name in ("a.png", "b.jpg", "c, d.png", "deep/e.png", "f.png"):
        write(tmp_path / "photos" / name, encoded(photo(), "PNG" if name.endswith("png") else "JPEG"))
    write(tmp_path / "outside.png", encoded(photo(), "PNG"))
    write(tmp_path / "photos" / "text.png", b"no image")

    def make(text, encoding="utf-8"):
        path = tmp_path / "photos" / "table.csv"
        path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
        return path

    return make


FORMS = {
    "plain": GOOD,
    "a byte order mark": "\ufeff" + GOOD,
    "Windows": GOOD.replace("\n", "\r\n"),
    "old Mac": GOOD.replace("\n", "\r"),
    "semicolons": GOOD.replace(",", ";"),
    "tabs": GOOD.replace(",", "\t"),
    "quotes": '"path","label"\n"a.png","dog"\n"b.jpg","cat"\n',
    "other columns, in another order": "id, Label ,PATH\n1,dog,a.png\n2,cat,b.jpg\n",
    "spaces": "path, label\na.png, dog \nb.jpg, cat\n",
    "empty fields more": GOOD.replace("dog", "dog,").replace("cat", "cat, ,"),
    "blank lines": "\n" + GOOD.replace("\n", "\n\n") + ",\n",
    "no last line break": GOOD.rstrip(),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_table(form, table):
    source = ImageTable(table(FORMS[form]))
    assert source.class_names == ["cat", "dog"]
    assert source.labels.tolist() == [1, 0]
    assert [os.path.basename(source.locate(index).split(": ")[1]) for index in range(2)] == ["a.png", "b.jpg"]
    assert source.decode_one(1).shape == (45, 61, 3)


def test_paths_go_from_the_table_and_may_leave_its_folder(table, tmp_path):
    absolute = tmp_path / "photos" / "f.png"
    source = ImageTable(table(f'path,label\n"c, d.png",x\ndeep/e.png,x\n../outside.png,x\n{absolute},x\n'), channels=1)
    assert [source.decode_one(index).shape for index in range(4)] == [(45, 61, 1)] * 4
    assert source.locate(2) == f"{tmp_path}/photos/table.csv, line 4: ../outside.png"


def test_classes_are_in_the_order_of_names_or_of_values(table):
    rows = "path,label\na.png,{}\nb.jpg,{}\nf.png,{}\n"
    assert ImageTable(table(rows.format("10", "9", "9.0"))).class_names == ["9", "10"]
    assert ImageTable(table(rows.format("-1", "0.5", "12345678901234567890"))).class_names == [
        "-1", "0.5", "12345678901234567890",
    ]  # fmt: skip
    ids = "9007199254740993.0", "9007199254740992.0", "0.50"  # a float64 has one value for the first two
    assert ImageTable(table(rows.format(*ids))).class_names == ["0.5", "9007199254740992", "9007199254740993"]
    assert ImageTable(table(rows.format("10", "9", "nine"))).class_names == ["10", "9", "nine"]
    assert ImageTable(table(rows.format(".5", "0.50", "+2.0"))).class_names == ["0.5", "2"]
    long = "1" * 5000  # more digits than Python makes an integer of
    assert ImageTable(table(rows.format(f"{long}.0", long, "-0"))).class_names == ["0", long]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a header and at least one image"),
        ("path,label\n", "a header and at least one image"),
        ("a.png,dog\n", r"columns path, label and, if there are splits, split. Received: .*csv, line 1: \['a.png', "),
        ("path,label,label\na.png,dog,dog\n", "Expected a header.*line 1"),
        ("path,label\na.png\n", r"the fields path, label. Received: .*line 2: \['a.png'\]"),
        (
            "path,label\na.png,dog, big\n",
            r"2 fields, as in .* holds ',' is quoted. Received: .*line 2: \['a.png', 'dog', 'b",
        ),
        ("path,label\na.png,dog\nb.jpg,\n", r"a label in every row. Received: .*line 3: \['b.jpg', ''\]"),
        ("path,label,split\na.png,dog,train\nb.jpg,cat,\n", "a split in every row. Received: .*line 3"),
        ("path,label\n,dog\n", "a path in every row. Received: .*line 2"),
        (GOOD + "./a.png,cat\n", "each image once. Received: .*line 4: ./a.png, as in .*line 2"),
        (GOOD + "gone.png,cat\n", r"1 that are no files: \['.*csv, line 4: gone.png'\]"),
        (GOOD + "deep,cat\n", r"1 that are no files: \['.*csv, line 4: deep'\]"),
        (GOOD + "text.png,cat\n", r"1 that are not whole images: \['.*csv, line 4: text.png'\]"),
        (GOOD + "table.csv,cat\n", r"1 that are not whole images: \['.*csv, line 4: table.csv'\]"),
        (GOOD + "f.png,Cat\n", r"labels in .* differ by more than case. Received: \[\['cat', 'Cat'\]\]"),
        (GOOD + '"f.png" x,cat\n', "Expected a CSV file. Received: .*line 4: "),
        (GOOD + '"f.png,cat\n', "Expected a CSV file. Received: .*line 4: unexpected end of data"),
        ((GOOD + "f.png,K\xe4fer\n").encode("latin-1"), "CSV file in UTF-8. Received: .*line 4, in another encoding"),
        (GOOD.encode("utf-16"), "CSV file in UTF-8. Received: .*line 1"),
        (encoded(photo(), "PNG"), "CSV file in UTF-8. Received: .*line 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text, message, table):
    with pytest.raises(ValueError, match=message) as error:
        ImageTable(table(text))
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="CSV file of paths and labels. Received: no file .*none.csv"):
        ImageTable(tmp_path / "none.csv")


ROWS = "path,label,split\na.png,dog,{0}\nb.jpg,cat,{0}\nf.png,dog,{1}\ndeep/e.png,cat,{1}\n"


def test_splits_of_a_table_and_those_that_are_taken(table, tmp_path):
    def load(**options):
        options = {"memory": 0.0, **options}
        return {
            name: [source.locate(index).split(": ")[1] for index in range(len(source.labels))]
            for name, source in load_splits("csv", path=str(tmp_path / "photos" / "table.csv"), **options).items()
        }

    table(ROWS.format("train", "test"))
    assert load(validation_fraction=0.0) == {"train": ["a.png", "b.jpg"], "test": ["f.png", "deep/e.png"]}
    table(ROWS.format("learn", "hold"))
    assert load(train="learn", test="hold", validation_fraction=0.0)["test"] == ["f.png", "deep/e.png"]
    table("path,label\n" + "".join(f"{name},{label}\n" for label, names in (
        ("x", ("a.png", "b.jpg", "f.png", "deep/e.png")), ("y", ('"c, d.png"', "../outside.png")),
    ) for name in names))  # fmt: skip
    taken = load(test_fraction=0.5, validation_fraction=0.0)
    assert {name: len(paths) for name, paths in taken.items()} == {"train": 3, "test": 3}
    assert len(set(taken["train"] + taken["test"])) == 6


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS.format("train", "dev"), {}, r"one of \['train', 'val', 'test'\], or as .*line 4: f.png, 'dev'"),
        (ROWS.format("validation", "test"), {}, "Received: .*line 2: a.png, 'validation'"),
        (ROWS.format("val", "test"), {}, r"one image of split 'train'. Received: images of \['test', 'val'\]"),
        (ROWS.format("train", "test"), {"val": "dev"}, "one image of split 'dev'"),
        (
            ROWS.format("train", "test"),
            {"test": "train"},
            r"of their own in train, val and test, .*\{'train': 'train', 'test",
        ),
        (GOOD, {"val": "dev"}, r"Expected a column split in .*csv for data.split. Received: \{'val': 'dev'\}"),
        (ROWS.format("train", "test") + "../outside.png,bird,test\n", {}, "training images as label.*line 6: .*'bird'"),
    ],
)
def test_splits_that_cannot_be_are_refused(rows, options, message, table):
    with pytest.raises(ValueError, match=message):
        load_splits("csv", path=str(table(rows)), **options)


def test_a_path_is_needed():
    with pytest.raises(ValueError, match="data.source.path to name a CSV file. Received: data.source.path=''"):
        load_splits("csv")


def test_an_image_by_a_relative_and_by_an_absolute_path_is_one(table, monkeypatch):
    file = table(GOOD)
    file.write_text(f"{GOOD}{file.parent / 'a.png'},cat\n")
    monkeypatch.chdir(file.parent)
    with pytest.raises(ValueError, match=r"each image once. Received: table.csv, line 4: .*a.png, as in .*line 2"):
        ImageTable(file.name)
