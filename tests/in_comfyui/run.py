"""Run the checks named on the command line, or all: python run.py [check ...]"""

import start


def main():
    import checks  # only now: `start` must have set up ComfyUI before anything of it is imported

    checks.report(start.ASKED)


if __name__ == "__main__":
    main()
