"""3D scenes: objects in metres and a camera, placed by hand or by relations, and the layouts that one sees of them."""

from runtime.scenes.parts import Camera, Relation, SceneObject
from runtime.scenes.scene import Scene

__all__ = ["Camera", "Relation", "Scene", "SceneObject"]
