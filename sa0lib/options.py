"""The option that commands share: whose head they work with."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from sa0lib.head import Head, load_flame, load_head


def add_head_options(parser: ArgumentParser) -> None:
    """`--flame` and `--template`; without them a command works with OpenHead."""
    parser.add_argument("--flame", type=Path, metavar="MODEL", help="your FLAME: generic_model.pkl, flame2023.pkl")
    parser.add_argument("--template", type=Path, metavar="OBJ", help="with --flame: head_template.obj, for the chart")


def chosen_head(arguments: Namespace) -> Head:
    """OpenHead, or the FLAME that was asked for.

    Raises ValueError if only one of both files is given; what `load_head` and `load_flame` raise.
    """
    if (arguments.flame is None) != (arguments.template is None):
        raise ValueError("--flame MODEL and --template OBJ need each other: the model file has no chart")
    return load_flame(arguments.flame, arguments.template) if arguments.flame else load_head()
