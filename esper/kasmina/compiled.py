"""Compiled hosts: torch.compile overlooks hooks that come after it unless it is told not to."""

import sys


def notice_hooks() -> None:
    """Let compiled forward passes notice every hook from now on; to be called when hooks change.

    By default torch.compile does not guard on a module's hooks (`skip_nnmodule_hook_guards`), so that a
    seed put into a compiled host would silently do nothing. The first time this turns the setting and
    forgets what has been compiled without such guards; it is compiled anew when it is next called.
    """
    dynamo = sys.modules.get("torch._dynamo")  # loading it takes seconds, and nothing is compiled without
    if dynamo is not None and dynamo.config.skip_nnmodule_hook_guards:
        dynamo.config.skip_nnmodule_hook_guards = False
        dynamo.reset()
