"""The healthcheck of the shop's front."""

import sys
from urllib.request import urlopen

with urlopen("http://127.0.0.1:8080/health", timeout=2) as answer:
    sys.exit(answer.status != 200)
