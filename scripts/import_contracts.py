"""Import rules that name modules by their place in the design, whether or not each of them has been written yet.

import-linter stops at a rule that names a missing module. These two kinds pass over it, so that a rule stands from the first day and
bites when its module arrives; a test makes sure that none of the named modules is missing once the product is whole.
"""

from __future__ import annotations

from grimp import ImportGraph
from importlinter import ContractCheck
from importlinter.contracts.forbidden import ForbiddenContract
from importlinter.contracts.protected import ProtectedContract
from importlinter.domain.imports import ModuleExpression

__all__ = ["ForbiddenWherePresent", "ProtectedWherePresent"]

OURS = ("gateway", "adapters")


def _present(expressions: object, graph: ImportGraph) -> list[ModuleExpression]:
    """Those of a rule's expressions that can match: wildcards, modules from outside, and modules of ours that exist."""
    if not isinstance(expressions, (set, list)):
        raise TypeError("a rule lists its modules")
    return [
        expression
        for expression in expressions
        if expression.has_wildcard_expression() or expression.expression.split(".")[0] not in OURS or expression.expression in graph.modules
    ]


class ForbiddenWherePresent(ForbiddenContract):
    """The `forbidden` rule, over the modules that exist."""

    type_name = "forbidden_where_present"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check the rule for every source and forbidden module that exists."""
        self.source_modules = set(_present(self.source_modules, graph))  # type: ignore[assignment]  # a field on the class, its value on a contract
        self.forbidden_modules = set(_present(self.forbidden_modules, graph))  # type: ignore[assignment]  # a field on the class, its value on a contract
        return super().check(graph, verbose)


class ProtectedWherePresent(ProtectedContract):
    """The `protected` rule, over the modules that exist."""

    type_name = "protected_where_present"

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Check the rule for every protected module and allowed importer that exists."""
        self.protected_modules = _present(self.protected_modules, graph)  # type: ignore[assignment]  # a field on the class, its value on a contract
        self.allowed_importers = _present(self.allowed_importers, graph)  # type: ignore[assignment]  # a field on the class, its value on a contract
        return super().check(graph, verbose)
