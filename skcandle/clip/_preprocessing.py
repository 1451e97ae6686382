"""From the content of an image to the pixels that a model takes, as open_clip resizes and crops."""

import io
from math import ceil

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import Resize

from ._image_reading import decode_image, in_rgb, orientation, turned
from ._open_clip_private import PreprocessCfg, image_transform_v2

# How many times larger than needed an image is still to be after decoding at reduced scale. With
# this, black text, stripes and checks of any size keep 45 dB of PSNR after resizing, photographs
# 57 dB; with 2, text keeps 32 dB.
REDUCED_MARGIN = 5.25
SIDEWAYS = range(5, 9)  # EXIF orientations that exchange width and height


class Preprocessing:
    """Resizing, cropping and normalisation of one model.

    Parameters
    ----------
    config : dict
        ``visual.preprocess_cfg`` of the model.

    Attributes
    ----------
    normalise : callable
        From floats between 0 and 1 to what the model takes.
    """

    def __init__(self, config):
        transform = image_transform_v2(PreprocessCfg(**config), is_train=False)
        # All that works on PIL images, and then two steps to floats.
        self._resize, *self._crop, _, self.normalise = transform.transforms
        # Other kinds of resizing see the size of the image itself, and no part of a pixel.
        self._can_reduce = isinstance(self._resize, Resize)

    def __call__(self, content, exact):
        """Pixels of one image.

        Parameters
        ----------
        content : ImageContent
        exact : bool
            Whether every image is decoded at its full size. Otherwise a JPEG of which at least
            twice `REDUCED_MARGIN` times the size is not needed is decoded at 1/2, 1/4 or 1/8.

        Returns
        -------
        pixels : Tensor of uint8 and shape (height, width, 3)
        """
        image = None if exact or not self._can_reduce else self._decode_reduced(content.data)
        if image is None:
            image = self._resize(decode_image(content))
        for step in self._crop:
            image = step(image)
        return torch.from_numpy(np.array(image))

    def _decode_reduced(self, data):
        """Image, upright and resized; None where reduced scale gains nothing or fails."""
        if isinstance(data, Image.Image):
            return None
        try:
            with Image.open(io.BytesIO(data)) as image:
                full_size = image.size
                turn = orientation(image)
                size = self._resized(full_size, turn in SIDEWAYS)
                # The box is what the image covers: its last pixels may be partly beyond its edge.
                _, box = image.draft(None, [ceil(REDUCED_MARGIN * side) for side in size]) or (
                    None,
                    None,
                )
                if box is None or image.size == full_size:
                    return None
                resample = Image.Resampling[self._resize.interpolation.name]
                return turned(in_rgb(image).resize(size, resample, box=box), turn)
        except MemoryError:
            raise
        except Exception:  # whatever is wrong, decoding in full shows it
            return None

    def _resized(self, full_size, is_sideways):
        """Width and height to which an image is resized before it is turned upright."""
        if not isinstance(self._resize.size, int):
            height, width = self._resize.size
            return (height, width) if is_sideways else (width, height)
        # of the shorter side; torchvision cuts off the fraction of the other
        shorter = min(full_size)
        return tuple(int(self._resize.size * side / shorter) for side in full_size)
