"""Image files that a CSV file lists, with their labels and, if it says so, their splits."""

import csv
import dataclasses
import decimal
import io
import os
import pathlib
import re
from collections.abc import Sequence

from absl import logging

from cskd_tf.data.sources.encoded import Files
from cskd_tf.data.sources.folders import similar_names
from cskd_tf.data.sources.image_files import check_image_files, sizes_of_files
from cskd_tf.errors import UserError

PATH, LABEL, SPLIT = "path", "label", "split"
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)")


@dataclasses.dataclass(frozen=True)
class Row:
    """One image of a table.

    Attributes:
        place: where it stands, for messages: `photos.csv, line 3: b.png`.
        path: of the image, from where Python is.
        label: as written.
        split: as written; empty where there is no such column.
    """

    place: str
    path: str
    label: str
    split: str = ""


class ImageTable(Files):
    r"""JPEG and PNG files that a CSV file lists: a header with `path`, `label` and, if there are splits, `split`.

    Fields are separated by commas, semicolons or tabs, as the header is, and quoted where need be; paths go from the
    folder of the CSV file. Labels that all are numbers are classes in the order of their values, others in the order of
    their names.

    Example:
        >>> for name in ("a", "b"):
        ...     tf.io.write_file(f"{name}.png", tf.io.encode_png(tf.zeros([2, 2, 3], tf.uint8)))
        >>> _ = pathlib.Path("photos.csv").write_text("path,label\na.png,dog\nb.png,cat\n")
        >>> source = ImageTable("photos.csv")
        >>> source.class_names, source.labels.tolist(), source.locate(1)
        (['cat', 'dog'], [1, 0], 'photos.csv, line 3: b.png')

    Args:
        file: the CSV file, or the rows that `read_rows` returned of it.
        split: take the rows of this split alone; all rows where left out.
        channels: 3 (colour) or 1 (grey); files of the other kind are converted.
        class_names: the expected classes, where another split has set them.
        check_files: whether to refuse files that are no images.

    Raises:
        UserError: with the line, what cannot be read as a table, a label that is no class, an image that is listed
            twice or no image; a split without rows; or classes that differ only by case.
    """

    def __init__(
        self,
        file: str | pathlib.Path | Sequence[Row],
        *,
        split: str | None = None,
        channels: int = 3,
        class_names: Sequence[str] | None = None,
        check_files: bool = True,
    ):
        all_rows = read_rows(file) if isinstance(file, (str, pathlib.Path)) else file
        rows = [row for row in all_rows if split is None or row.split == split]
        if not rows:
            received = sorted({row.split for row in all_rows})
            raise UserError(f"Expected at least one image of split {split!r}. Received: images of {received}")
        classes = _classes(all_rows)
        present = {row.label for row in rows}
        own_names = dict.fromkeys(name for label, name in classes.items() if label in present)
        names = list(own_names if class_names is None else class_names)
        paths, self._places = [row.path for row in rows], [row.place for row in rows]
        numbers = {name: number for number, name in enumerate(names)}
        for row in rows:
            if classes[row.label] not in numbers:
                raise UserError(
                    f"Expected a class of the training images as label. Received: {row.place}, {row.label!r}"
                )
        sizes = sizes_of_files(paths, names=self._places)
        if check_files:
            check_image_files(paths, channels=channels, names=self._places)
        super().__init__(
            paths,
            [numbers[classes[row.label]] for row in rows],
            class_names=names,
            channels=channels,
            sizes=sizes,
        )

    def locate(self, index: int) -> str:
        return self._places[index]


def read_rows(file: str | pathlib.Path) -> list[Row]:
    """The rows of a CSV file, of which `ImageTable` tells the form. Blank lines are left out.

    Raises:
        UserError: with the line, what is not of that form, and an image that is listed twice.
    """
    file = pathlib.Path(file)
    text = _text(file)
    first_line = next(iter(text.splitlines()), "")
    delimiter = max(",;\t", key=first_line.count)
    # newline="" as the module wants it, so that a line break inside quotes is kept.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    rows: list[Row] = []
    first_places: dict[str, str] = {}
    columns, width = None, 0
    try:
        for fields in reader:
            if not any(field.strip() for field in fields):
                continue
            place = f"{file}, line {reader.line_num}"
            if columns is None:
                columns, width = _columns(fields, place=place), len(fields)
                continue
            if any(field.strip() for field in fields[width:]):
                raise UserError(
                    f"Expected {width} fields, as in the header; a label that holds {delimiter!r} is quoted. "
                    f"Received: {place}: {fields}"
                )
            row = _row(fields, columns, file=file, place=place)
            known = os.path.abspath(row.path)  # and not behind links: of many files on a server that takes its time
            if known in first_places:
                raise UserError(f"Expected each image once. Received: {row.place}, as in {first_places[known]}")
            first_places[known] = place
            rows.append(row)
    except csv.Error as error:
        raise UserError(f"Expected a CSV file. Received: {file}, line {reader.line_num}: {error}") from error
    if columns is None or not rows:
        raise UserError(f"Expected a header and at least one image. Received: {file}, without them")
    if same := similar_names(list(dict.fromkeys(row.label for row in rows))):
        raise UserError(f"Expected labels in {file} that differ by more than case. Received: {same[:10]}")
    return rows


def _text(file: pathlib.Path) -> str:
    """The text of a file, without a byte order mark."""
    if not file.is_file():
        raise UserError(f"Expected a CSV file of paths and labels. Received: no file {file}")
    contents = file.read_bytes()
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = contents[: error.start].count(b"\n") + 1
        raise UserError(f"Expected a CSV file in UTF-8. Received: {file}, line {line}, in another encoding") from error


def _columns(header: Sequence[str], *, place: str) -> dict[str, int]:
    """Where path, label and split stand in each row. Other columns are left out, which is logged."""
    names = [name.strip().lower() for name in header]
    known = [name for name in names if name in (PATH, LABEL, SPLIT)]
    if not {PATH, LABEL} <= set(known) or len(known) > len(set(known)):
        raise UserError(
            f"Expected a header with the columns {PATH}, {LABEL} and, if there are splits, {SPLIT}. "
            f"Received: {place}: {list(header)}"
        )
    if others := [name for name in names if name not in known]:
        logging.warning("%s: columns other than %s, %s and %s are left out: %s", place, PATH, LABEL, SPLIT, others)
    return {name: names.index(name) for name in known}


def _row(fields: Sequence[str], columns: dict[str, int], *, file: pathlib.Path, place: str) -> Row:
    if len(fields) <= max(columns.values()):
        raise UserError(f"Expected the fields {', '.join(columns)}. Received: {place}: {list(fields)}")
    path, label, split = (fields[columns[name]].strip() if name in columns else "" for name in (PATH, LABEL, SPLIT))
    for name, value in ((PATH, path), (LABEL, label), (SPLIT, split)):
        if name in columns and not value:
            raise UserError(f"Expected a {name} in every row. Received: {place}: {list(fields)}")
    return Row(place=f"{place}: {path}", path=os.path.join(file.parent, path), label=label, split=split)


def _classes(rows: Sequence[Row]) -> dict[str, str]:
    """For each label, as written, the name of its class, in the order of the classes."""
    labels = {row.label for row in rows}
    if not all(_NUMBER.fullmatch(label) for label in labels):
        return {label: label for label in sorted(labels)}
    values = {label: decimal.Decimal(label) for label in labels}  # exact, however many digits a label has
    return {label: _number(value) for label, value in sorted(values.items(), key=lambda item: item[1])}


def _number(value: decimal.Decimal) -> str:
    """A number as the name of a class, one for all ways in which it may be written.

    Example:
        >>> [_number(decimal.Decimal(label)) for label in ("+07", "1.50", ".5", "2.0", "-0")]
        ['7', '1.5', '0.5', '2', '0']
    """
    whole, _, fraction = format(value if value else decimal.Decimal(0), "f").partition(".")
    return ".".join(filter(None, (whole, fraction.rstrip("0"))))
