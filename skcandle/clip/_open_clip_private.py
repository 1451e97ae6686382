"""The names of open_clip that the library needs and that are not public.

They are here together so that a release of open_clip which moves one is noticed in one place;
``tests/test_private_names.py`` says which.
"""

from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from open_clip.pretrained import download_pretrained
from open_clip.transform import PreprocessCfg, image_transform_v2

__all__ = [
    "HF_SAFE_WEIGHTS_NAME",
    "HF_WEIGHTS_NAME",
    "PreprocessCfg",
    "download_pretrained",
    "image_transform_v2",
]
