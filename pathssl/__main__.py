"""python -m pathssl VERB"""

import sys

from pathssl.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
