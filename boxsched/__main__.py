"""``python -m boxsched``."""

from boxsched.cli import main

if __name__ == "__main__":
    main(prog_name="boxsched")
