"""``python -m loadtest.rotation``: rotate keys under load with real programs, and judge every answer."""

import sys
import time
from pathlib import Path

import click

from loadtest.bench.tools import ROOT
from loadtest.rotation.running import Size, run
from loadtest.rotation.showing import print_findings, write_findings


@click.command()
@click.option("--clients", default=20, show_default=True, help="Callers in all, that call without pause.")
@click.option("--seconds", default=40, show_default=True, help="Length of the fixed rotation's overlap.")
@click.option("--quiet", "quiet_s", default=4, show_default=True, help="The policy's min_quiet, in seconds.")
@click.option("--crash/--no-crash", default=True, show_default=True, help="Kill a node with SIGKILL meanwhile.")
@click.option("--seed", type=int, help="Of what is chosen at random.  [the time]")
@click.option("--registry", envvar="VERIFIER_LOADTEST_REGISTRY", metavar="URL",
              help="An empty database for the registry, instead of SQLite.  [env: VERIFIER_LOADTEST_REGISTRY]")
@click.option("--json", "json_file", type=click.Path(path_type=Path), default=ROOT / "bench-results/rotation.json",
              help="Where the JSON goes.  [bench-results/rotation.json]")
def main(clients: int, seconds: int, quiet_s: int, crash: bool, seed: int | None, registry: str | None,
         json_file: Path) -> None:
    """Rotate five keys under load: fixed, on first use, scheduled, rolled back, retired once that is safe.

    Exit code 1 if a valid call was refused, a window did not end within a second, or safe-to-retire was wrong.
    """
    seed = int(time.time()) if seed is None else seed
    size = Size(clients, seconds, quiet_s, crash, seed)
    click.echo(f"{clients} clients, overlap {seconds} s, seed {seed} ...", err=True)
    begin = time.monotonic()
    findings, notes = run(size, registry)
    took_s = time.monotonic() - begin
    print_findings(findings, notes, took_s)
    write_findings(json_file, findings, notes, size, took_s)
    sys.exit(1 if findings.problems else 0)


if __name__ == "__main__":
    main()
