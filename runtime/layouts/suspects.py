"""What a picture holds that is not what its field is for: tables of what to look for, each with what to say.

Only what is plain is refused. A check returns what the picture seems to be, or None.
"""

from collections.abc import Callable, Sequence

import numpy as np

from runtime.errors import FieldError
from runtime.layouts.files import Picture
from runtime.layouts.palette import UNLABELLED, ade20k

Suspicion = Callable[[Picture], str | None]

MOST_CLASSES = 60  # in one label map; scenes of ADE20K have fewer than 50
MOST_BLENDS = 2  # classes that only stand between a lower and a higher one; interpolation makes more
BRIGHT = 150  # of 255: ids of ADE20K end below, and depth does not
GREY = (0.1, 0.9)  # what is neither black nor white
FAINT = 8  # of 255: a span that is one value to the eye
MOST_UNKNOWN = 0.25  # of a coloured map's pixels, that blending and compression change
DARK = 16  # of 255: black to the eye
LIT = 64  # of 255: the brightest line at the least
LEAST_BLACK = 0.3  # of a picture of people's keypoints
MOST_COLOURS = 1000  # of a picture of classes, edges that are smoothed among them
UNIT_ERROR = 0.15  # of normals in 8 bits, smoothed
METRES = 65535 // 3  # 16 bits of millimetres end below, and pictures of estimators above


def refuse(picture: Picture, field: str, suspicions: Sequence[Suspicion]) -> None:
    """Raises: FieldError: the picture seems to hold something else."""
    for suspicion in suspicions:
        if problem := suspicion(picture):
            raise FieldError(field, f"the {field} {problem}")


def _colours(picture: Picture) -> str | None:
    if not picture.is_coloured:
        return None
    return "has colours, so it seems to be a photograph or a coloured map; give one in grey"


def _alpha(picture: Picture) -> str | None:
    if not _alpha_differs(picture):
        return None
    return "has a transparent part that differs from its colours; save the one that is meant as a grey picture"


def _alpha_differs(picture: Picture) -> bool:
    """Whether transparency says what the colours do not: on black, the picture would be another."""
    if picture.alpha is None:
        return False
    grey, alpha = picture.rgba[..., 0].astype(int), picture.alpha.astype(int)
    return bool((np.abs(grey - grey * alpha // 255) > FAINT).any())


def _one_value(picture: Picture) -> str | None:
    low, high = picture.values.min(), picture.values.max()
    return f"is {_shown(low)} everywhere, so it shows nothing" if low == high else None


def _faint(picture: Picture) -> str | None:
    values = picture.grey
    if values.dtype.kind not in "fu":
        return None
    if not (float(values.max()) - float(values.min())) * 255 < FAINT * picture.top:  # which is so of NaN
        return None
    return f"spans {_shown(values.min())} to {_shown(values.max())} of {picture.top}, so it shows nothing; scale it"


def _out_of_range(picture: Picture) -> str | None:
    low, high = picture.grey.min(), picture.grey.max()
    if low >= 0 and high <= picture.top:  # which is not so of NaN
        return None
    return f"spans {_shown(low)} to {_shown(high)}; give 0 to 1 in floats, or 8 or 16 bits"


def _shades(picture: Picture) -> str | None:
    grey = picture.grey / picture.top
    if not ((grey > GREY[0]) & (grey < GREY[1])).mean() > 0.5:
        return None
    return "is grey for the most part, so it seems to be a photograph or depth; a mask is white on black"


def _mask(picture: Picture) -> str | None:
    found = picture.values
    is_mask = set(np.unique(found).tolist()) <= {0, 1 if found.dtype.kind in "fb" else int(np.iinfo(found.dtype).max)}
    return "is black and white alone, so it seems to be a mask" if is_mask else None


def _metres(picture: Picture) -> str | None:
    if picture.values.dtype != np.uint16 or picture.values.max() >= METRES:
        return None
    return (
        f"ends at {picture.values.max()} of 65535, so it seems to be distances, or 8 bits; near must be bright, "
        "and the nearest close to 65535"
    )


def _classes(picture: Picture) -> str | None:
    grey = picture.grey
    if grey.dtype != np.uint8 or grey.size < 32 * 32 or grey.max() >= BRIGHT or len(np.unique(grey)) > MOST_CLASSES:
        return None
    return f"ends at {grey.max()} of 255 and has few values, so it seems to be a label map; near must be bright"


def _blended(picture: Picture) -> str | None:
    """Enlarged or shrunk with interpolation, a label map has ids between those of its classes."""
    ids = picture.values.astype(np.int64)
    between = _between(ids) | _between(ids.T).T
    blends = np.setdiff1d(ids[between], ids[~between])
    if len(blends) <= MOST_BLENDS:
        return None
    return "has ids that only stand between others, as blending makes them; resize it to the nearest pixel"


def _between(ids: np.ndarray) -> np.ndarray:
    """Which pixels (H,W) are above one neighbour in their row and below the other."""
    steps = np.sign(np.diff(np.pad(ids, ((0, 0), (1, 1)), mode="edge"), axis=1))
    return (steps[:, 1:] == steps[:, :-1]) & (steps[:, 1:] != 0)


def _lossy(picture: Picture) -> str | None:
    return "is a JPEG, which changes class ids; save it as a PNG" if picture.lossy else None


def _many_classes(picture: Picture) -> str | None:
    count = len(np.unique(picture.values))
    return (
        f"has {count} values, so it seems to be a photograph or depth, not class ids" if count > MOST_CLASSES else None
    )


def _painted(picture: Picture) -> str | None:
    """A palette's indices are ids, unless its colours plainly say other ones."""
    if picture.palette is None:
        return None
    ids = np.unique(picture.values)
    ids = ids[(ids != UNLABELLED) & (ids < len(picture.palette))]
    colours = picture.palette[ids]
    if (colours == ids[:, None]).all():
        return None
    if (colours == colours[:, :1]).all() and len(np.unique(colours[:, 0])) == len(ids):
        return "has a palette of greys that are not its values; save it as a grey PNG, grey = class"
    if len(ids) > 1 and _is_ade20k(colours) and not (colours == _ade20k_colours(ids)).all():
        return "has ADE20K's colours at other values than the class ids; save it with the ids as values"
    return None


def _other_colours(picture: Picture) -> str | None:
    """What is not in ADE20K's colours alone: another palette, a photograph, or a map that was blended or compressed."""
    colours = picture.rgba[..., :3]
    unknown = (ade20k().ids_of(colours) == UNLABELLED) & colours.any(axis=-1)
    if not unknown.any():
        return None
    if unknown.mean() < MOST_UNKNOWN:
        return (
            f"is in ADE20K's colours but for {unknown.mean():.2%} of its pixels, as blending makes them; save it as a "
            "PNG, resized to the nearest pixel"
        )
    return (
        f"has pixels that are {picture.image.mode}, not class ids or ADE20K's colours; save it as a palette or grey "
        "PNG, id = class"
    )


def _is_ade20k(colours: np.ndarray) -> bool:
    classes = {(0, 0, 0), *map(tuple, ade20k().colors.tolist())}
    return bool(colours.any()) and all(tuple(colour) in classes for colour in colours.tolist())


def _ade20k_colours(ids: np.ndarray) -> np.ndarray:
    """(n,3); black beyond the classes."""
    table = np.zeros((UNLABELLED + 1, 3), dtype=np.uint8)
    table[: len(ade20k().colors)] = ade20k().colors
    return table[ids]


def _shown(value: np.generic) -> str:
    return f"{value.item():.3g}" if value.dtype.kind == "f" else str(int(value))


def _bright(picture: Picture) -> str | None:
    if not np.median(_bytes(picture)) > 127:
        return None
    return "is bright for the most part, so it seems to have dark lines on white; invert it: lines are white on black"


def _bytes(picture: Picture) -> np.ndarray:
    return picture.grey * (255 / picture.top)


def _dim(picture: Picture) -> str | None:
    if _bytes(picture).max() >= LIT:
        return None
    return f"has no line brighter than {_shown(picture.grey.max())} of {picture.top}; make its lines white"


def _no_lines(picture: Picture) -> str | None:
    grey = _bytes(picture)
    if not ((grey > GREY[0] * 255) & (grey < GREY[1] * 255)).mean() > 0.5:
        return None
    return "is grey for the most part, so it seems to be a photograph or depth; lines are white on black"


def _greys(picture: Picture) -> str | None:
    if picture.has_colours:
        return None
    return "has no colours, so it seems to be a mask, depth, or a label map that is meant for another field"


def _crowded(picture: Picture) -> str | None:
    if not (picture.rgba[..., :3].max(axis=2) < DARK).mean() < LEAST_BLACK:
        return None
    return "is black almost nowhere, so it seems to be a photograph; draw the people on black"


def _many_colours(picture: Picture) -> str | None:
    count = len(np.unique(picture.rgba[..., :3].reshape(-1, 3), axis=0))
    return f"has {count} colours, so it seems to be a photograph, not classes" if count > MOST_COLOURS else None


def _no_normals(picture: Picture) -> str | None:
    """Normals are of length 1, and what is seen faces the viewer."""
    colours = picture.rgba[..., :3]
    normals = colours[colours.max(axis=2) >= DARK] / 127.5 - 1
    lengths = np.linalg.norm(normals, axis=1)
    if np.median(np.abs(lengths - 1)) < UNIT_ERROR and (normals[:, 2] > 0).mean() > 0.5:
        return None
    return "has colours that are no normals of length 1 towards the viewer (x red, y green, z blue)"


def _no_hole(picture: Picture) -> str | None:
    share = 0.0 if picture.alpha is None else float((picture.alpha < 128).mean())
    if 0 < share < 1:
        return None
    return f"is transparent in {share:.0%} of its pixels; make transparent what is to be filled, and nothing else"


MASK = (_colours, _alpha, _one_value, _shades)
DEPTH = (_colours, _alpha, _one_value, _mask, _faint, _classes, _metres)
COLOURED_LABELS = (_lossy, _alpha, _other_colours)
LABELS = (_lossy, _one_value, _mask, _painted, _many_classes, _blended)
# Of finished control pictures
SHOWN_DEPTH = (_out_of_range, *DEPTH)
SOFT_LINES = (_colours, _alpha, _one_value, _out_of_range, _bright, _dim)
DRAWN_LINES = (*SOFT_LINES, _no_lines)
POSES = (_greys, _alpha, _one_value, _crowded)
PAINTED_CLASSES = (_lossy, _alpha, _one_value, _greys, _many_colours)
NORMALS = (_greys, _alpha, _one_value, _no_normals)
PHOTOGRAPH = (_alpha, _one_value, _out_of_range)
HOLED = (_one_value, _no_hole)
