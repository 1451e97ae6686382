"""Private names of open_clip that the library needs.

All imports of them are here, so that a release of open_clip that moves one breaks one module.
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
