"""Builds the one C file, where there is a compiler. Everything else is in pyproject.toml.

The extension is optional: without a compiler, or when it does not build, the package is the same and slower
(docs/decisions/0011-c-where-it-pays.md). `python setup.py build_ext --inplace` builds it in a checkout.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "nvr._fast",
            ["nvr/_fast.c"],
            optional=True,
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"],
        )
    ]
)
