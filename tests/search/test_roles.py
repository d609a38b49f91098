"""A worker that is a role of its own in PostgreSQL trains a whole search, finals included."""

import pytest

pytestmark = pytest.mark.slow
