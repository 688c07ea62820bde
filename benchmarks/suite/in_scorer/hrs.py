"""HRS-Bench's own functions, asked prompt by prompt, because its scripts say means of thirds alone.

Each prompt is judged with its own pictures. The scripts themselves take, for counting, spatial and size, the second
and the third third's pictures from a ninth and two ninths of the prompts on.

    python hrs.py SKILL RULE.py PROMPTS.csv FOUND PICTURES PROMPTS IMAGES OUT.json
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any


def main(skill: str, rule: str, prompts: str, found: str, pictures: str, count: str, images: str, out: str) -> None:
    module = open_module(rule)
    asked = module.load_gt(prompts)[: int(count)]
    judge = {"color": judge_colors, "counting": judge_counts}.get(skill, judge_relations)
    rows = [judge(module, asked, found, pictures, k) for k in range(int(images))]  # of each picture, of each prompt
    figures = {name: [mean([row[i][name] for row in rows]) for i in range(len(asked))] for name in rows[0][0]}
    Path(out).write_text(json.dumps(figures))


def open_module(path: str) -> Any:
    spec = importlib.util.spec_from_file_location("rule", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judge_relations(module: Any, asked: Any, found: str, pictures: str, k: int) -> Any:
    there = module.load_pred(pkl_pth=found, iter_idx=k)
    return [{"accuracy": relation(module, sample, there[i])} for i, sample in enumerate(asked)]


def relation(module: Any, sample: Any, there: Any) -> Any:
    """1 or 0; None where the suite's own function fails, as that of spatial does on its hardest third's right ones."""
    try:
        return module.cal_acc([sample], {0: there}, level=0) / 100
    except KeyError:
        return None


def judge_counts(module: Any, asked: Any, found: str, pictures: str, k: int) -> Any:
    there = module.load_pred(pkl_pth=found, iter_idx=k)
    return [count(sample, there[i]) for i, sample in enumerate(asked)]


def count(sample: Any, there: Any) -> Any:
    """Precision, recall and F1 of one picture by the suite's definition; each found object counts once for a name."""
    pairs = [(asked, sum(name in names for names in there.values())) for name, asked in sample.items()]
    right = sum(min(pair) for pair in pairs)
    asked, seen = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    precision = right / seen if seen else 0.0
    recall = right / asked if asked else 0.0
    return {"F1": 2 * right / (asked + seen) if asked + seen else 0.0, "precision": precision, "recall": recall}


class OnePrompt(list):  # type: ignore[type-arg]
    """All prompts, to a function that judges a third of them: its thirds are of one prompt."""

    def __len__(self) -> int:
        return 3


def judge_colors(module: Any, asked: Any, found: str, pictures: str, k: int) -> Any:
    masks = module.load_pred(
        pred_masks_names=[path.name for path in Path(found).iterdir()], iter_idx=k, data_len=len(asked)
    )
    return [
        {"accuracy": module.cal_acc(OnePrompt(asked), masks, i, k, pictures, found) / 100} for i in range(len(asked))
    ]


def mean(values: Any) -> Any:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


if __name__ == "__main__":
    main(*sys.argv[1:])
