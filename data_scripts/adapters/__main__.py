"""Convert a dataset you have into the book's one format, or say what is missing.

    python -m data_scripts.adapters NAME SOURCE OUT [--dry-run] [options of NAME]

`python -m data_scripts.adapters NAME --help` says what each one needs, where to get it, and its licence. A dry run
reads, reports and exits with 0 if the conversion could run, 1 if something is missing. Nothing is written until a whole
sequence is, and nothing that was there is lost if it fails.
"""

import argparse
import pkgutil
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from data_scripts import adapters


def modules() -> list[ModuleType]:
    """Every adapter of this package: the modules that can `convert`."""
    found = [
        import_module(f"{adapters.__name__}.{m.name}")
        for m in pkgutil.iter_modules(adapters.__path__)
        if m.name != "__main__"
    ]
    return [module for module in found if hasattr(module, "convert")]


def check_apart(out: Path, inputs: Sequence[Path]) -> None:
    """Raise ValueError if replacing `out` would take away what is read: an input, or a folder around one."""
    for path in inputs:
        if path.resolve().is_relative_to(out.resolve()):
            raise ValueError(f"{out} is, or holds, {path}, which is only read: choose another folder to write")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one adapter. Returns 0, or 1 when a dry run finds something missing; errors leave through SystemExit."""
    parser = argparse.ArgumentParser(
        prog="python -m data_scripts.adapters",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="name", required=True, metavar="NAME")
    for module in modules():
        command = commands.add_parser(
            module.NAME,
            help=module.__doc__.split("\n")[0],
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_argument("source", type=Path, help="what you have: file or folder, only read")
        command.add_argument("out", type=Path, help="folder to write; an earlier dataset there is replaced")
        command.add_argument("--dry-run", action="store_true", help="only report what is there and what is missing")
        module.add_arguments(command)
        command.set_defaults(module=module)
    options = vars(parser.parse_args(arguments))
    name, module = options.pop("name"), options.pop("module")
    source, out, dry_run = options.pop("source"), options.pop("out"), options.pop("dry_run")
    try:
        check_apart(out, [source, *(value for value in options.values() if isinstance(value, Path))])
        if dry_run:
            report = module.inspect(source, **options)
            print(report)
            report.check_places(out)
            return 0 if report.ok else 1
        for path in module.convert(source, out, **options):
            print(f"wrote {path}")
    except (ValueError, OSError, RuntimeError) as error:
        sys.exit(f"{name}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
