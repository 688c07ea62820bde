"""A Dockerfile's stages and instructions."""

import json
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Stage:
    name: str
    base: str
    lines: list[tuple[str, str]] = field(default_factory=list)  # instruction, its words

    def all(self, instruction: str) -> list[str]:
        return [words for name, words in self.lines if name == instruction]

    def command(self, instruction: str) -> list[str]:
        """The last one, in JSON; of a health check what it runs."""
        words = self.all(instruction)[-1]
        return json.loads(words[words.index("[") :])


def read_dockerfile(path: Path) -> dict[str, Stage]:
    text = "\n".join(line for line in path.read_text().splitlines() if not line.startswith("#"))
    stages: dict[str, Stage] = {}
    for line in text.replace("\\\n", "").splitlines():
        name, _, words = line.partition(" ")
        if name == "FROM":
            base, _, stage = words.partition(" AS ")
            stages[stage] = Stage(stage, base)
        elif name and stages:
            list(stages.values())[-1].lines.append((name, words))
    return stages
