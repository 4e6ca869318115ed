"""Stage check: refuse settings and files that the pipeline would harm, before any other stage removes its outputs."""

from __future__ import annotations

from pipeline import cli, config, workspace
from pipeline.files import write_text
from stages.cell import Cell

NOTE = """\
The pipeline writes everything in this folder, and removes it before it writes it again.
Keep files of your own elsewhere: `data/`, say, which git ignores and the pipeline never touches.
"""


def main() -> None:
    params = config.load()
    workspace.refuse_paths_in_outputs(params.paths())
    cells = [Cell(*pair) for pair in params.grid.cells()]
    workspace.refuse_foreign_files(*workspace.output_folders(cell.key for cell in cells))
    write_text(workspace.NOTE, NOTE)


if __name__ == "__main__":
    cli.run(main)
