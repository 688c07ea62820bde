"""Parts of an area: cells of a grid, and boxes in cells."""

from runtime.layouts.geometry import Box

MARGIN = 0.06  # of a cell, on each side of its box
SLIMMEST = 1.3  # at most, one side of a box to the other


def split(count: int, area: Box, in_a_row: bool = False) -> list[Box]:
    """`count` cells, row by row, as nearly square as can be; the last row's are wider if it has fewer."""
    if in_a_row:
        return [cell_of(area, (i, count), (0, 1)) for i in range(count)]
    x0, y0, x1, y1 = area
    width, height = x1 - x0, y1 - y0

    def slimness(rows: int) -> float:
        aspect = (width / -(-count // rows)) / (height / rows)
        return max(aspect, 1 / aspect)

    rows = min(range(1, count + 1), key=slimness)
    columns = -(-count // rows)
    rows = -(-count // columns)  # some of those asked for may be empty
    cells = []
    for row in range(rows):
        in_row = min(columns, count - row * columns)
        cells += [cell_of(area, (column, in_row), (row, rows)) for column in range(in_row)]
    return cells


def cell_of(area: Box, column: tuple[int, int], row: tuple[int, int]) -> Box:
    """The i-th of n equal columns, and the i-th of n equal rows, of an area."""
    (i, columns), (j, rows) = column, row
    return part_of(area, (i / columns, j / rows, (i + 1) / columns, (j + 1) / rows))


def part_of(area: Box, part: Box) -> Box:
    """A part in fractions of an area."""
    x0, y0, x1, y1 = area
    width, height = x1 - x0, y1 - y0
    return x0 + part[0] * width, y0 + part[1] * height, x0 + part[2] * width, y0 + part[3] * height


def fit(cell: Box, down: float, fills_width: bool, scale: float) -> Box:
    """A box in a cell, `down` of the free height from its top; not too slim, unless it is to fill the width."""
    x0, y0, x1, y1 = cell
    room_x, room_y = (1 - 2 * MARGIN) * (x1 - x0), (1 - 2 * MARGIN) * (y1 - y0)
    width = scale * (room_x if fills_width else min(room_x, SLIMMEST * room_y))
    height = scale * min(room_y, SLIMMEST * room_x)
    left = (x0 + x1 - width) / 2
    top = y0 + MARGIN * (y1 - y0) + down * (room_y - height)
    return rounded((left, top, left + width, top + height))


def rounded(box: Box) -> Box:
    return tuple(round(edge, 4) for edge in box)  # type: ignore[return-value]
