"""Random changes of drawings for training: moved, recoloured, shaded and partly hidden."""

import cv2
import numpy as np

cv2.setNumThreads(1)


def random_colour(rng):
    """Draw a colour with components between 0 and 1."""
    return rng.random(3, dtype=np.float32)


def gradient(rng, side, low, high):
    """Make a linear ramp from `low` to `high` in a random direction."""
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    plane = np.cos(angle) * ramp[None] + np.sin(angle) * ramp[:, None]
    plane = (plane / 1.42 + 1) / 2
    return low + (high - low) * plane[..., None]


def paint(alpha, rng):
    """Colour a monochrome icon: its strokes, and sometimes what they enclose.

    Parameters
    ----------
    alpha : ndarray of shape (height, width), dtype uint8
        Opacity of the icon.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    rgba : ndarray of shape (height, width, 4), dtype uint8
    """
    height, width = alpha.shape
    stroke = random_colour(rng) * rng.choice([0.3, 1.0])
    rgba = np.empty((height, width, 4), np.uint8)
    if rng.random() < 0.6:
        outside = np.pad((alpha > 100).astype(np.uint8), 1)
        cv2.floodFill(outside, None, (0, 0), 2)
        inside = outside[1:-1, 1:-1] != 2
        cover = (alpha / np.float32(255))[..., None]
        fill = random_colour(rng)
        rgba[..., :3] = 255 * (cover * stroke + (1 - cover) * fill)
        rgba[..., 3] = np.maximum(alpha, 255 * inside)
    else:
        rgba[..., :3] = 255 * stroke
        rgba[..., 3] = alpha
    return rgba


def warp_matrix(rng, source, side, strength):
    """Draw a map of the plane that turns, scales, shears, mirrors and shifts."""
    angle = rng.normal(0, np.radians(12) * strength)
    scale = side / source * np.exp(rng.uniform(-0.3, 0.25) * strength)
    aspect = np.exp(rng.uniform(-0.15, 0.15) * strength)
    mirror = rng.choice([-1, 1])
    shear = rng.normal(0, 0.12 * strength)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[scale * aspect * mirror, shear * scale], [0, scale / aspect]])
    shift = side / 2 * (1 + rng.uniform(-0.15, 0.15, 2) * strength)
    corner = shift - matrix @ np.array([source / 2, source / 2])
    tilt = rng.normal(0, 0.0015 * strength, 2)
    return np.vstack([np.column_stack([matrix, corner]), [*tilt, 1]])


def bend(rgba, rng, strength):
    """Shift the parts of a drawing against each other, smoothly."""
    side = rgba.shape[0]
    coarse = rng.normal(0, 0.03 * side * strength, (4, 4, 2)).astype(np.float32)
    shift = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
    place = np.arange(side, dtype=np.float32)
    x = place[None] + shift[..., 0]
    y = place[:, None] + shift[..., 1]
    return cv2.remap(rgba, x, y, cv2.INTER_LINEAR)


def flatten(image, rng):
    """Replace shades and small detail by few plain colours."""
    image = cv2.medianBlur(image, int(rng.choice([3, 5])))
    levels = rng.integers(3, 8)
    step = np.float32(255 / levels)
    colours = np.round(image[..., :3] / step) * step
    return np.dstack([colours.astype(np.uint8), image[..., 3]])


def recolour(rgb, rng, strength):
    """Mix the colour channels, change contrast and brightness; sometimes all grey."""
    mix = np.eye(3, dtype=np.float32) * rng.uniform(1 - 0.3 * strength, 1 + 0.2 * strength)
    mix = mix + rng.normal(0, 0.12 * strength, (3, 3)).astype(np.float32)
    if rng.random() < 0.1 * strength:
        mix[:] = mix.mean(0)
    if rng.random() < 0.1 * strength:
        mix = mix[rng.permutation(3)]
    rgb = cv2.transform(rgb, mix)
    rgb += np.float32(rng.normal(0, 0.06 * strength))
    np.clip(rgb, 0, 1, out=rgb)
    if rng.random() < 0.4 * strength:
        rgb **= np.float32(np.exp(rng.normal(0, 0.3 * strength)))
    return rgb


def augment(image, side, strength, rng):
    """Change one drawing at random and lay it on a background.

    Parameters
    ----------
    image : ndarray of shape (n, n, 4) or (n, n), dtype uint8
        RGBA drawing, or the opacity of a monochrome icon.
    side : int
        Height and width of the result.
    strength : float
        Scale of all changes; 1 is moderate.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    pixels : ndarray of shape (side, side, 3), dtype float32
        RGB from 0 to 1.
    """
    if image.ndim == 2:
        image = paint(image, rng)
    if rng.random() < 0.15 * strength:
        image = flatten(np.ascontiguousarray(image), rng)
    rgba = image.astype(np.float32) / 255
    rgba[..., :3] *= rgba[..., 3:]
    matrix = warp_matrix(rng, image.shape[0], side, strength)
    rgba = cv2.warpPerspective(rgba, matrix, (side, side), flags=cv2.INTER_LINEAR)
    if rng.random() < 0.6:
        rgba = bend(rgba, rng, strength)
    alpha = rgba[..., 3:]
    rgb = recolour(np.ascontiguousarray(rgba[..., :3]), rng, strength)
    if rng.random() < 0.3 * strength:
        rgb *= gradient(rng, side, rng.uniform(0.4, 0.9), rng.uniform(0.9, 1.3))
    rgb *= alpha > 0
    if rng.random() < 0.15 * strength:
        width = int(rng.integers(1, 3))
        wider = cv2.dilate(alpha, np.ones((2 * width + 1, 2 * width + 1)))[..., None]
        rgb += (wider - alpha) * random_colour(rng) * rng.choice([0.2, 1.0])
        alpha = wider
    kind = rng.random()
    if kind < 0.6:
        background = np.float32(1)
    elif kind < 0.85:
        background = random_colour(rng)
    else:
        background = gradient(rng, side, random_colour(rng), random_colour(rng))
    rgb += (1 - alpha) * background
    if rng.random() < 0.25 * strength:
        rgb = cv2.GaussianBlur(rgb, (0, 0), rng.uniform(0.3, 1.0) * side / 48)
    if rng.random() < 0.3 * strength:
        height, width = rng.integers(side // 8, side * 2 // 5, size=2)
        top, left = rng.integers(side - height), rng.integers(side - width)
        rgb[top : top + height, left : left + width] = random_colour(rng)
    return np.clip(rgb, 0, 1)
