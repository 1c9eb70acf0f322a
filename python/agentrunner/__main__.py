"""The entry point of the `agentrunner` command and of `python -m agentrunner`."""

import io
import sys


def main() -> None:
    """Run the command line, or print how to install the packages that it needs."""
    try:
        from agentrunner.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("rich", "typer"):
            raise
        print('the command line needs more packages: pip install "agentrunner[cli]"', file=sys.stderr)
        raise SystemExit(2) from None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Print `?` for a character that the terminal's encoding lacks; without this the command would fail.
            stream.reconfigure(errors="replace")
    app(prog_name="agentrunner")


if __name__ == "__main__":
    main()
