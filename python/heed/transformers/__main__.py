# __main__.py: python -m heed.transformers. Not here: what it writes (_kernel.py).
import argparse

from heed import Error

from ._demo import TEXT, demo
from ._kernel import kernel_folder


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m heed.transformers", description="heed under Hugging Face's transformers")
    commands = parser.add_subparsers(dest="command", required=True)
    folder = commands.add_parser(
        "kernel-folder", help="write a folder for the kernels package; prints the line that makes "
        "attn_implementation='flash_attention_2' resolve to heed")
    folder.add_argument("path")
    show = commands.add_parser(
        "demo", help="a BERT-like model with random weights on real text, eager against heed")
    show.add_argument("path", nargs="?", default=TEXT, help=f"a capture with word pieces; {TEXT}")
    arguments = parser.parse_args()
    try:
        if arguments.command == "demo":
            return 0 if demo(arguments.path) else 1
        print(f"export LOCAL_KERNELS='{kernel_folder(arguments.path)}'")
    except Error as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
