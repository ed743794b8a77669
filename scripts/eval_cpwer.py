"""Does separation help speech recognition? The paper's experiment; the same as ``pixit evaluate cpwer``.

See ``python scripts/eval_cpwer.py --help``.
"""

import sys

from pixit.cli import cli

if __name__ == "__main__":
    cli(["evaluate", "cpwer", *sys.argv[1:]], prog_name="eval_cpwer")
