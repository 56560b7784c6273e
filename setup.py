"""Builds the C of `nvr/fast/`, where there is a compiler. Everything else is in pyproject.toml.

The extension is optional: without a compiler, or when it does not build, the package is the same and slower
(docs/decisions/0011-c-where-it-pays.md). `python setup.py build_ext --inplace` builds it in a checkout.
"""

from glob import glob

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "nvr._fast",
            sorted(glob("nvr/fast/*.c")),
            depends=["nvr/fast/fast.h"],
            optional=True,
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
        )
    ]
)
