"""`agentrunner` on the command line, and `python -m agentrunner`."""

import io
import sys


def main() -> None:
    """Run the command line; without its packages say how to get them."""
    try:
        from agentrunner.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("rich", "typer"):
            raise
        print('the command line needs more packages: pip install "agentrunner[cli]"', file=sys.stderr)
        raise SystemExit(2) from None
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # What a terminal's encoding has no sign for costs that sign, not the command.
            stream.reconfigure(errors="replace")
    app(prog_name="agentrunner")


if __name__ == "__main__":
    main()
