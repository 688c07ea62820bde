from . import io as io


class ComfyExtension:
    pass
