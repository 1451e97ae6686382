"""From the content of an image to the pixels for a model, resized and cropped as by open_clip."""

import io
from math import ceil

import numpy as np
import torch
from PIL import Image
from torchvision.io import ImageReadMode
from torchvision.transforms import CenterCrop, Resize
from torchvision.transforms.v2.functional import resize

from .._images.formats import open_image
from .._images.pixels import decode_image, in_rgb, orientation, turned
from ._open_clip_private import PreprocessCfg, image_transform_v2

# How many times the needed size an image must still have after decoding at reduced scale. With
# this value, black text, stripes and checks of any size keep a PSNR of 45 dB after resizing, and
# photographs 57 dB; with 2, text keeps 32 dB.
REDUCED_MARGIN = 5.25
# Images with a longer ratio of sides are cut before they are resized; only a square is kept anyway.
MAX_RATIO = 100
SIDEWAYS = range(5, 9)  # EXIF orientations that swap width and height


def decode_jpeg(data):
    """Pixels of a JPEG, of shape (3, height, width), from torchvision's decoder.

    It is called as an operation of PyTorch, which runs without the interpreter lock, and without
    the warning of torchvision 0.29 that its functions will move to TorchCodec.
    """
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return torch.ops.image.decode_jpeg(encoded, ImageReadMode.RGB.value)


class Preprocessing:
    """Resizing, cropping and normalisation for one model.

    Parameters
    ----------
    config : dict
        ``visual.preprocess_cfg`` of the model.

    Attributes
    ----------
    normalise : callable
        Function from floats between 0 and 1 to the input of the model.
    geometry : dict
        How images are resized and cropped: `size` (height and width), `interpolation`,
        `resize_mode` and `fill_color`.
    """

    def __init__(self, config):
        config = PreprocessCfg(**config)
        transform = image_transform_v2(config, is_train=False)
        # Steps on PIL images, and then two steps that make floats.
        self._resize, *self._crop, _, self.normalise = transform.transforms
        # This module does plain resizing faster; open_clip's other kinds are used as they are.
        self._is_plain = isinstance(self._resize, Resize)
        self.geometry = {
            "size": list(config.input_size[1:]),
            "interpolation": self._resize.interpolation.value,
            "resize_mode": config.resize_mode or "shortest",
            "fill_color": config.fill_color,
        }

    def __call__(self, content, exact, in_many_threads=False):
        """Pixels of one image.

        Parameters
        ----------
        content : ImageContent
        exact : bool
            Whether to decode every image at full size and resize it as open_clip does.
            Otherwise a JPEG is decoded at 1/2, 1/4 or 1/8 if `REDUCED_MARGIN` allows it, and
            torchvision resizes tensors, whose pixels differ by at most one level.
        in_many_threads : bool
            Whether torchvision decodes JPEGs of moderate size, if not `exact`. Pillow keeps other
            threads waiting while it copies pixels, and torchvision does not.

        Returns
        -------
        pixels : Tensor of uint8 and shape (height, width, 3)
        """
        if exact or not self._is_plain:
            image = self._resize(self._middle(decode_image(content)))
        elif in_many_threads and (pixels := self._decode_by_torchvision(content.data)) is not None:
            return pixels
        else:
            image = self._decode_reduced(content.data) or self._decode_whole(content)
        for step in self._crop:
            image = step(image)
        return torch.from_numpy(np.array(image))

    def _decode_whole(self, content):
        image = self._middle(decode_image(content))
        return self._shrink(image, self._target(image.size))

    def _decode_reduced(self, data):
        """The image, upright and resized; None if reduced scale gains nothing or fails."""
        if isinstance(data, Image.Image):
            return None
        try:
            with open_image(io.BytesIO(data)) as image:
                full_size, turn = image.size, orientation(image)
                size = self._target(full_size, turn in SIDEWAYS)
                # The box is the image area; the last pixels may lie partly outside it.
                _, box = image.draft(None, [ceil(REDUCED_MARGIN * side) for side in size]) or (0, 0)
                if not box or image.size == full_size:
                    return None
                # In one piece: Pillow keeps other threads waiting while it joins small ones.
                image.decodermaxblock = len(data)
                return turned(self._shrink(in_rgb(image), size, box), turn)
        except MemoryError:
            raise
        except Exception:  # full decoding then reports what is wrong
            return None

    def _middle(self, image):
        """A very long image without the ends, which are cropped anyway.

        An image of 1 x 20,000 pixels, resized to a shorter side of 224, would take three gigabytes.
        """
        if not isinstance(self._resize, Resize) or not isinstance(self._resize.size, int):
            return image
        shorter = min(image.size)  # cutting whole squares keeps the positions after resizing
        ends = [max(side // shorter - MAX_RATIO, 0) // 2 * shorter for side in image.size]
        if not any(ends):
            return image
        width, height = image.size
        return image.crop((ends[0], ends[1], width - ends[0], height - ends[1]))

    def _decode_by_torchvision(self, data):
        """Pixels of a JPEG; None for other images, and for JPEGs that Pillow has to prepare."""
        if isinstance(data, Image.Image):
            return None
        try:
            with open_image(io.BytesIO(data)) as image:
                full_size, size = image.size, self._target(image.size)
                if (
                    image.format not in ("JPEG", "MPO")
                    or image.mode not in ("RGB", "L")
                    or orientation(image) != 1
                    or self._middle(image) is not image
                    or np.prod(full_size) <= np.prod(size)
                ):
                    return None
                image.draft(None, [ceil(REDUCED_MARGIN * side) for side in size])
                if image.size != full_size:
                    return None
            pixels = decode_jpeg(data)
            pixels = resize(
                pixels, size[::-1], interpolation=self._resize.interpolation, antialias=True
            )
            for step in self._crop:
                pixels = step(pixels) if isinstance(step, CenterCrop) else pixels
            return pixels.permute(1, 2, 0).contiguous()
        except MemoryError:
            raise
        except Exception:  # Pillow then reports what is wrong
            return None

    def _shrink(self, image, size, box=None):
        """Resize the image, or a box of it, to a width and height."""
        interpolation = self._resize.interpolation
        whole = box is None or box == (0, 0, *image.size)
        # Tensors can only be resized whole, and are not faster when they grow.
        if not whole or image.width * image.height <= size[0] * size[1]:
            return image.resize(size, Image.Resampling[interpolation.name], box=box)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        pixels = resize(pixels, size[::-1], interpolation=interpolation, antialias=True)
        return Image.fromarray(pixels.permute(1, 2, 0).numpy())

    def _target(self, full_size, is_sideways=False):
        """Width and height to resize an image to before it is turned upright."""
        if not isinstance(self._resize.size, int):
            height, width = self._resize.size
            return (height, width) if is_sideways else (width, height)
        # The size is that of the shorter side; torchvision rounds the other one down.
        shorter = min(full_size)
        return tuple(int(self._resize.size * side / shorter) for side in full_size)
