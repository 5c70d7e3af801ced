"""What a PromQL expression asks for: the series that it selects, and the labels that it groups and matches by."""

from dataclasses import dataclass

import promql_parser


@dataclass(frozen=True)
class Selector:
    """A selector: its metric, the values that labels must have, and every label that it matches on."""

    metric: str
    equal: frozenset[tuple[str, str]]
    labels: frozenset[str]


def parsed(expression):
    """Selectors, and the labels of the rest of the expression. Raises ValueError where it is no PromQL."""
    selectors, labels = [], set()

    def visit(node):
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            matchers = node.matchers.matchers
            equal = {(matcher.name, matcher.value) for matcher in matchers if matcher.op == promql_parser.MatchOp.Equal}
            names = {matcher.name for matcher in matchers}
            selectors.append(Selector(node.name, frozenset(equal), frozenset(names)))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None:
            if node.modifier.matching is not None:
                labels.update(node.modifier.matching.labels)
            labels.update(node.modifier.group_labels or ())

    promql_parser.walk(promql_parser.parse(expression), visit)
    return list(dict.fromkeys(selectors)), labels
