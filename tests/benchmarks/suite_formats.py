"""A checker of suites' folders, written from what the suites' scorers do with names: it knows nothing of our writer."""

from pathlib import Path

from PIL import Image


def check_t2i(category: Path, prompts: list[str], images: int, side: int) -> None:
    """The scorers list `samples`, order by the digits at the end, and read the prompt up to the first "_"."""
    assert {path.name for path in category.iterdir() if not path.name.startswith(("annotation", "labels"))} == {
        "samples"
    }
    names = [path.name for path in (category / "samples").iterdir()]
    by_end = sorted(names, key=lambda name: int(name.split("_")[-1].split(".")[0]))
    assert by_end == sorted(names, key=lambda name: int(name.split("_")[1].split(".")[0]))
    assert [int(name[-10:-4]) for name in by_end] == list(range(len(prompts) * images))
    assert [name.split("_")[0] for name in by_end] == [prompt for prompt in prompts for _ in range(images)]
    assert all(name.endswith(".png") for name in names)
    _check_pictures(category / "samples", "PNG", side)


def check_nsr(folder: Path, ids: list[int], images: int, side: int) -> None:
    """GLIP's scripts list the folder and take two numbers out of each name."""
    told = [tuple(int(part) for part in path.stem.split("_")) for path in folder.iterdir()]
    assert sorted(told) == sorted((one, k) for one in ids for k in range(images))
    assert all(path.suffix == ".jpg" for path in folder.iterdir())
    _check_pictures(folder, "JPEG", side)


def check_hrs(folder: Path, prompts: int, images: int, side: int) -> None:
    """UniDet's script takes two numbers; that of colours looks for names filled with zeros."""
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(f"{str(i).zfill(5)}_{str(k).zfill(2)}.png" for i in range(prompts) for k in range(images))
    _check_pictures(folder, "PNG", side)


def check_overlaybench(split: Path, ids: list[str], seeds: list[int], side: int) -> None:
    assert sorted(path.name for path in split.iterdir()) == sorted(map(str, seeds))
    for seed in split.iterdir():
        assert sorted(path.name for path in seed.iterdir()) == sorted(f"{one}.png" for one in ids)
        _check_pictures(seed, "PNG", side)


def _check_pictures(folder: Path, kind: str, side: int) -> None:
    for path in folder.iterdir():
        image = Image.open(path)
        image.load()
        assert (image.format, image.mode, image.size) == (kind, "RGB", (side, side)), path
