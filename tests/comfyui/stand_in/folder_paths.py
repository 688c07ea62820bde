models_dir = "/nowhere"
folders: dict[str, list[str]] = {}


def add_model_folder_path(folder_name: str, full_folder_path: str, is_default: bool = False) -> None:
    folders.setdefault(folder_name, []).append(full_folder_path)


def get_folder_paths(folder_name: str) -> list[str]:
    return list(folders[folder_name])
