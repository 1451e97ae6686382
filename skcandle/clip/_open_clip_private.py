"""Private names of open_clip that the library needs.

All imports of them are here, so that a release of open_clip that moves one breaks one module.
"""

from open_clip.transform import PreprocessCfg, image_transform_v2
from open_clip.transformer import AttentionalPooler

__all__ = ["AttentionalPooler", "PreprocessCfg", "image_transform_v2"]
