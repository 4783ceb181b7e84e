"""The quiz of a chapter, inside Jupyter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segconf_lite import quizzes

if TYPE_CHECKING:
    from IPython.display import HTML


def quiz(chapter: int) -> HTML:
    """The questions of a chapter. Open a choice to see whether it is right, and why.

    Args:
        chapter: Number of the chapter, e.g. 2.

    Raises:
        ImportError: If IPython is missing; the message names the extra.
        ValueError: If the chapter has no quiz.

    Example:
        >>> "How sure the network is of the classes" in quiz(1).data
        True
    """
    try:
        from IPython.display import HTML
    except ImportError as error:
        raise ImportError("a quiz needs IPython: pip install 'segconf-lite[notebooks]'") from error
    return HTML(quizzes.as_html(quizzes.read(chapter)))
