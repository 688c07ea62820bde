"""3D scenes: objects in metres and a camera, placed by hand or by relations, as a layout with boxes, depth and labels."""

from runtime.scenes.parts import Camera, Relation, SceneObject
from runtime.scenes.scene import Scene

__all__ = ["Camera", "Relation", "Scene", "SceneObject"]
