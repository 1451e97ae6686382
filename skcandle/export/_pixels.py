"""From an image to the pixels that an exported image encoder takes, without PyTorch."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps


def resize_and_crop(
    image: Image.Image,
    *,
    size: Sequence[int],
    interpolation: str = "bicubic",
    resize_mode: str = "shortest",
    fill_color: int = 0,
) -> np.ndarray:
    """Prepare an image for a file of :func:`to_onnx` that takes pixels.

    It needs only NumPy and Pillow, so that you can copy it to where neither PyTorch nor skcandle is
    installed. The parameters of a model are in the metadata of its file, as JSON under the name
    "preprocessing".

    Parameters
    ----------
    image : PIL.Image.Image
        In any mode of 8 bits per channel.
    size : sequence of two int
        Height and width that the model takes.
    interpolation : {"bicubic", "bilinear"}, default="bicubic"
        How to resize.
    resize_mode : {"shortest", "longest", "squash"}, default="shortest"
        Resize the shortest side to `size` and crop, resize the longest side to `size` and pad, or
        resize both.
    fill_color : int, default=0
        Grey of the padding, from 0 to 255.

    Returns
    -------
    pixels : ndarray of shape (height, width, 3) and dtype uint8

    See Also
    --------
    to_onnx : Writes the file.

    Notes
    -----
    The pixels are the same as those of :class:`~skcandle.CLIPFeaturizer` with ``precision="fp32"``.
    With its default, it decodes large JPEGs at reduced scale and resizes faster, which changes
    pixels slightly.

    Examples
    --------
    >>> from PIL import Image
    >>> from skcandle.export import resize_and_crop
    >>> resize_and_crop(Image.new("RGB", (640, 480), "red"), size=(224, 224)).shape
    (224, 224, 3)
    """
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    height, width = size
    if resize_mode == "squash":
        resized = [width, height]
    elif resize_mode == "shortest" and width == height:
        resized = [int(width * side / min(image.size)) for side in image.size]
    else:
        choose = min if resize_mode == "shortest" else max
        ratio = choose(image.height / height, image.width / width)
        resized = [round(side / ratio) for side in image.size]
    image = image.resize(resized, Image.Resampling[interpolation.upper()])
    canvas = Image.new("RGB", (width, height), (fill_color,) * 3)
    across, down = width - resized[0], height - resized[1]  # negative where the image is cropped
    left, top = (n // 2 if n > 0 else round(n / 2) for n in (across, down))
    canvas.paste(image, (left, top))
    return np.array(canvas)
