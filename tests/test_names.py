"""One name, one meaning: no two classes of the package share a name."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import sameface


def class_names() -> list[str]:
    """Return the name of every class of the package."""
    trees = (ast.parse(path.read_text("utf-8")) for path in Path(sameface.__file__).parent.rglob("*.py"))
    return [node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def test_no_two_classes_share_a_name() -> None:
    assert [name for name, count in Counter(class_names()).items() if count > 1] == []
