"""From the content of an image to RGB pixels, upright and without transparency."""

import io

import numpy as np
from PIL import Image

from .formats import open_image

EXIF_ORIENTATION = 0x0112
# From an orientation to the operation that turns the image upright.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(content):
    """Decode the content of an image.

    Parameters
    ----------
    content : ImageContent

    Returns
    -------
    image : PIL.Image.Image
        In mode RGB, with EXIF orientation applied and transparency on white.
    """
    if isinstance(content.data, Image.Image):
        return content.data
    with open_image(io.BytesIO(content.data)) as image:
        image.load()
        return upright_rgb(image)


def image_from_array(array):
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return Image.fromarray(np.ascontiguousarray(array))


def upright_rgb(image):
    """The image upright and in RGB; the image itself if nothing has to change."""
    if 0 in image.size:
        raise ValueError(f"its size is {image.size[0]} x {image.size[1]} pixels")
    return in_rgb(turned(image, orientation(image)))


def orientation(image):
    """EXIF orientation of an image, from 1 (upright) to 8.

    Damaged EXIF data count as 1, because the pixels may still decode.
    """
    try:
        value = image.getexif().get(EXIF_ORIENTATION, 1)
    except MemoryError:
        raise
    except Exception:  # damaged data raise errors of any type
        return 1
    return value if value in range(1, 9) else 1


def turned(image, orientation):
    """The image turned upright from an EXIF orientation."""
    return image if orientation == 1 else image.transpose(TURNS[orientation])


def in_rgb(image):
    """The image in mode RGB, with transparency on white."""
    if image.mode.startswith("I"):
        image = _from_deep_grey(image)
    if image.mode == "F":
        raise ValueError(
            "its pixels are floats, which have no standard range; convert them to uint8"
        )
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_deep_grey(image):
    """Reduce 16 bits to 8; Pillow's own conversion would turn all values above 255 white."""
    # Mode "I" has 32 bits, but Pillow also reads 16-bit files into it.
    deep = np.array(image, dtype=np.int32)
    np.clip(deep, 0, 65535, out=deep)
    deep += 128
    deep //= 257
    return Image.fromarray(deep.astype(np.uint8))
