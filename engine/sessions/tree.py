"""``python -m engine tree DIR``: the family tree of the sessions in a folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import UserError
from engine.sessions.options import TreeOptions
from engine.sessions.reader import Session, open_session
from engine.sessions.store import INFO, MAX_ENTRIES


@dataclass
class _Node:
    name: str
    line: str
    frame: int = 0
    children: list[_Node] = field(default_factory=list)


def sessions_in(folder: Path) -> list[Path]:
    """The sessions in a folder, sorted by name, or the folder itself where it is one. UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    if (folder / INFO).is_file():
        return [folder]
    found = []
    with os.scandir(folder) as entries:
        for count, entry in enumerate(entries):
            if count >= MAX_ENTRIES:
                raise UserError(f"{folder} holds more than {MAX_ENTRIES} files; name a session's folder")
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                path = folder / entry.name
                if (path / INFO).exists():
                    found.append(path)
    if not found:
        raise UserError(f"{folder} holds no sessions; make one with: python play.py --record FOLDER")
    return sorted(found, key=lambda path: (len(path.name), path.name))


def tree(folder: Path) -> list[str]:
    """The lines of the family tree. A session that cannot be opened says why."""
    paths = sessions_in(folder)
    if paths == [folder]:
        paths = sessions_in(folder.absolute().parent)
    nodes, roots = dict[str, _Node](), list[_Node]()
    parents: dict[str, str] = {}
    for path in paths:
        try:
            session = open_session(path)
        except UserError as error:
            nodes[path.name] = _Node(path.name, f"{path.name}  cannot be opened: {error}")
            continue
        nodes[path.name] = _Node(path.name, _line(session), session.first)
        if session.info.parent is not None:
            parents[path.name] = session.info.parent.folder
    for name, node in nodes.items():
        beside = nodes.get(parents.get(name, ""))
        (roots if beside is None else beside.children).append(node)
    lines: list[str] = []
    waiting = [(node, "", "") for node in reversed(roots)]
    while waiting:  # and not by recursion: a long line of branches is deep
        node, lead, below = waiting.pop()
        lines.append(lead + node.line)
        node.children.sort(key=lambda child: child.frame)
        for index, child in reversed(list(enumerate(node.children))):
            last = index == len(node.children) - 1
            waiting.append((child, below + ("`-- " if last else "|-- "), below + ("    " if last else "|   ")))
    return lines


def _line(session: Session) -> str:
    info = session.info
    rate = info.frame_rate
    if info.parent is None:
        length = f"{session.last} frames ({session.last / rate:.0f} s)"
        what = f"{info.world}  seed {info.seed}, {info.start or 'start'}, {length}"
    else:
        own = session.last - session.first
        what = f"from frame {session.first}, {own} frames of its own ({own / rate:.0f} s)"
    return f"{session.folder.name}  {what}" + ("" if session.ended else ", not ended")


def run(options: TreeOptions) -> None:
    """Print the tree. Raises UserError."""
    print("\n".join(tree(options.folder)))
