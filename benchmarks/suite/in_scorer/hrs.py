"""HRS-Bench's own functions, asked prompt by prompt, because its scripts say means of thirds alone.

Each prompt is judged with its own pictures. The scripts themselves take, for counting, spatial and size, the second
and the third third's pictures from a ninth and two ninths of the prompts on.

    python hrs.py SKILL RULE.py PROMPTS.csv FOUND PICTURES PROMPTS IMAGES OUT.json
"""

import importlib.util
import json
import os
import sys


def main(skill, rule, prompts, found, pictures, count, images, out):
    module = open_module(rule)
    asked = module.load_gt(prompts)[: int(count)]
    judge = {"color": judge_colors, "counting": judge_counts}.get(skill, judge_relations)
    rows = [judge(module, asked, found, pictures, k) for k in range(int(images))]  # of each picture, of each prompt
    figures = {name: [mean([row[i][name] for row in rows]) for i in range(len(asked))] for name in rows[0][0]}
    with open(out, "w") as file:
        json.dump(figures, file)


def open_module(path):
    spec = importlib.util.spec_from_file_location("rule", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def judge_relations(module, asked, found, pictures, k):
    there = module.load_pred(pkl_pth=found, iter_idx=k)
    return [{"accuracy": relation(module, sample, there[i])} for i, sample in enumerate(asked)]


def relation(module, sample, there):
    """1 or 0; None where the suite's own function fails, as that of spatial does on its hardest third's right ones."""
    try:
        return module.cal_acc([sample], {0: there}, level=0) / 100
    except KeyError:
        return None


def judge_counts(module, asked, found, pictures, k):
    there = module.load_pred(pkl_pth=found, iter_idx=k)
    return [count(sample, there[i]) for i, sample in enumerate(asked)]


def count(sample, there):
    """Precision, recall and F1 of one picture by the suite's definition; each found object counts once for a name."""
    pairs = [(asked, sum(name in names for names in there.values())) for name, asked in sample.items()]
    right = sum(min(pair) for pair in pairs)
    asked, seen = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    precision = right / seen if seen else 0.0
    recall = right / asked if asked else 0.0
    return {"F1": 2 * right / (asked + seen) if asked + seen else 0.0, "precision": precision, "recall": recall}


class OnePrompt(list):
    """All prompts, to a function that judges a third of them: its thirds are of one prompt."""

    def __len__(self):
        return 3


def judge_colors(module, asked, found, pictures, k):
    masks = module.load_pred(pred_masks_names=os.listdir(found), iter_idx=k, data_len=len(asked))
    return [
        {"accuracy": module.cal_acc(OnePrompt(asked), masks, i, k, pictures, found) / 100} for i in range(len(asked))
    ]


def mean(values):
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


if __name__ == "__main__":
    main(*sys.argv[1:])
