"""OverLayBench's captions and boxes, from its data set on the Hugging Face hub into `data/` of a checkout.

python overlaybench_prompts.py CHECKOUT
"""

import json
import sys
from ast import literal_eval
from pathlib import Path
from typing import Any

SPLITS = ("simple", "medium", "hard")
OBJECT = ("category", "bbox")


def main(checkout: str) -> None:
    from datasets import load_dataset  # type: ignore[import-not-found,unused-ignore]  # in the scorer's Python

    folder = Path(checkout, "data")
    folder.mkdir(exist_ok=True)
    for split in SPLITS:
        rows = [row_of(data) for data in load_dataset("cywang143/OverLayBench_Eval", split=split)]
        (folder / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def row_of(data: Any) -> Any:
    annotation = literal_eval(data["annotation"])
    objects = {str(name): {field: one[field] for field in OBJECT} for name, one in annotation["annotations"].items()}
    return {"image_id": str(data["image_id"]), "caption": annotation["caption"], "annotations": objects}


if __name__ == "__main__":
    main(sys.argv[1])
