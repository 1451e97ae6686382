from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = next(
    line.split('"')[1]
    for line in (ROOT / "skcandle" / "__init__.py").read_text().splitlines()
    if line.startswith("__version__")
)
PLOTS = ["matplotlib>=3.7"]
PANDAS = ["pandas>=2.0"]
DASK = ["dask[dataframe]>=2025.1", "distributed>=2025.1", "pyarrow>=17"]

setup(
    name="skcandle",
    version=VERSION,
    description="Few-shot, long-tailed and zero-image classification of CLIP features",
    long_description=(ROOT / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="BSD-3-Clause",
    license_files=["LICENSE", "skcandle/data/**/LICENSE*"],
    packages=find_packages(include=["skcandle", "skcandle.*"]),
    package_data={"skcandle": ["data/**/*"]},
    python_requires=">=3.10",
    install_requires=[
        "scikit-learn>=1.6",  # validate_data
        "torch>=2.1",
        "open_clip_torch>=3.0",  # local-dir:, require_pretrained
        "huggingface_hub>=0.25",  # huggingface_hub.errors
        "numpy>=1.24",
        "scipy>=1.10",
        "joblib>=1.3",
        "pillow>=9.4",
        "tqdm>=4.64",
    ],
    extras_require={
        "plots": PLOTS,
        "pandas": PANDAS,
        "dask": DASK,
        "tests": [
            "pytest>=7.4",
            "pytest-timeout>=2.2",
            "safetensors>=0.4",
            "skops>=0.12",
            *PLOTS,
            *PANDAS,
            *DASK,
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
