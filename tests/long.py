"""Whether the tests look further than every run can afford: ``RIVERCHIEF_LONG=1 make test``, as before a release."""

import os

LONG = os.environ.get("RIVERCHIEF_LONG") == "1"
