"""What a new release of a dependency has moved is named here before anything else fails."""

from importlib import import_module

import pytest

NAMES = {
    "sklearn.base": ["_fit_context"],
    "sklearn.utils._missing": ["is_pandas_na", "is_scalar_nan"],
    "sklearn.utils._param_validation": ["HasMethods", "Interval", "StrOptions"],
    "sklearn.utils._set_output": ["_wrap_data_with_container"],
    "sklearn.utils.validation": ["_check_sample_weight"],
    "open_clip.constants": ["HF_SAFE_WEIGHTS_NAME", "HF_WEIGHTS_NAME"],
    "open_clip.pretrained": ["download_pretrained"],
    "open_clip.transform": ["PreprocessCfg", "image_transform_v2"],
}


@pytest.mark.parametrize("module, name", [(m, n) for m, names in NAMES.items() for n in names])
def test_a_private_name_is_where_it_was(module, name):
    assert hasattr(import_module(module), name), f"{module}.{name} is gone"


@pytest.mark.parametrize("module", ["_sklearn_private", "clip._open_clip_private"])
def test_private_names_are_imported_in_one_place(module):
    listed = {name.removeprefix("_") for names in NAMES.values() for name in names}
    assert set(import_module(f"skcandle.{module}").__all__) <= listed
