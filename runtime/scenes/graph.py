"""Relations between objects by their numbers: names are looked up, and who faces whom is told from who stands where."""

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from runtime.errors import FieldError
from runtime.messages import shown
from runtime.scenes.parts import CAMERA, Relation, SceneObject
from runtime.scenes.relations import RELATIONS


@dataclass(frozen=True)
class Edge:
    """A relation, and its objects' numbers; the object's is None of the camera."""

    relation: str
    subject: int
    object: int | None
    gap: float | None
    field: str

    @property
    def turns(self) -> int:
        return RELATIONS[self.relation].turns


def read_relations(objects: Sequence[SceneObject], relations: Sequence[Relation]) -> list[Edge]:
    """Raises: FieldError: a name that no object or several have, or an object that is turned twice."""
    edges = [_edge(objects, relation, f"relations.{i}") for i, relation in enumerate(relations)]
    turned = dict[int, str]()
    for edge in edges:
        if edge.turns:
            _check_turn(objects[edge.subject], edge, turned.setdefault(edge.subject, edge.field))
    return edges


def _edge(objects: Sequence[SceneObject], relation: Relation, field: str) -> Edge:
    subject = _find(objects, relation.subject, f"{field}.subject")
    other = None if relation.object == CAMERA else _find(objects, relation.object, f"{field}.object")
    return Edge(relation.relation, subject, other, relation.gap, field)


def _find(objects: Sequence[SceneObject], name: str, field: str) -> int:
    found = [i for i, one in enumerate(objects) if one.id == name]
    if len(found) > 1:
        raise FieldError(field, f"{len(found)} objects are called {name!r}; give each a name of its own")
    if not found:
        names = [one.id for one in objects]
        close = get_close_matches(name, names, n=1) or names
        raise FieldError(field, f"no object is called {name!r}; there is {shown(', '.join(close))}")
    return found[0]


def _check_turn(subject: SceneObject, edge: Edge, first: str) -> None:
    if first != edge.field:
        raise FieldError(edge.field, f"{subject.id!r} is turned by {first} already; leave one out")
    if any(subject.rotation):
        raise FieldError(
            edge.field, f"{subject.id!r} has a rotation, and is {edge.relation} something besides; leave one out"
        )
