"""Tests in their long form, of minutes: ``LOCI_FULL_TESTS=1``."""

import os

import pytest

FULL = bool(os.environ.get("LOCI_FULL_TESTS"))
only_in_full = pytest.mark.skipif(not FULL, reason="minutes; LOCI_FULL_TESTS=1")
