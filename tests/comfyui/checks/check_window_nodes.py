"""What binds ComfyUI's executor: known in this ComfyUI, and one that is another is refused with a sentence."""

from unittest import mock

import execution
from kit import NODES, expect


def check_this_executor_is_known():
    from instructx_pack.nodes.nested_execution import check_executor

    assert "InstructXWindowClose" in NODES
    check_executor()


def check_another_executor_is_refused_with_a_sentence():
    from instructx_pack.nodes.nested_execution import check_executor

    async def execute(server, dynprompt, caches, current_item, extra_data, executed, prompt_id):
        """With other arguments."""

    def waiting(*arguments):
        """No longer asynchronous."""

    for name, other in (("execute", execute), ("execute", waiting), ("CacheEntry", dict), ("ExecutionResult", object)):
        with mock.patch.object(execution, name, other):
            expect("InputError", "does not know yet; update InstructX", check_executor)
    kept = execution.IsChangedCache
    del execution.IsChangedCache
    try:
        expect("InputError", "does not know yet; update InstructX", check_executor)
    finally:
        execution.IsChangedCache = kept
