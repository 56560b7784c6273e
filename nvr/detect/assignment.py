"""Who takes which: pairs of the least total cost. Pure."""

from __future__ import annotations

from collections.abc import Sequence

IMPOSSIBLE = 1e6


def assignment(costs: Sequence[Sequence[float]]) -> list[tuple[int, int]]:
    """Pairs (row, column) of the least total cost, every possible pair rather than none (Kuhn, 1955; Jonker, Volgenant, 1987).

    Pairs that cost IMPOSSIBLE are left out. Cubic in the longer side: 30 by 30 takes some 5 ms.
    """
    rows, columns = len(costs), len(costs[0]) if costs else 0
    if not rows or not columns:
        return []
    if rows > columns:
        turned = assignment([[costs[row][column] for row in range(rows)] for column in range(columns)])
        return sorted((row, column) for column, row in turned)
    row_price, column_price = [0.0] * (rows + 1), [0.0] * (columns + 1)
    row_of = [0] * (columns + 1)  # rows and columns count from 1, 0 is nobody
    for row in range(1, rows + 1):
        row_of[0] = row
        at = 0
        least = [float("inf")] * (columns + 1)
        came_from = [0] * (columns + 1)
        done = [False] * (columns + 1)
        while row_of[at]:
            done[at] = True
            mine, step, nearest = row_of[at], float("inf"), 0
            line, price = costs[mine - 1], row_price[mine]
            for column in range(1, columns + 1):
                if done[column]:
                    continue
                reduced = line[column - 1] - price - column_price[column]
                if reduced < least[column]:
                    least[column], came_from[column] = reduced, at
                if least[column] < step:
                    step, nearest = least[column], column
            for column in range(columns + 1):
                if done[column]:
                    row_price[row_of[column]] += step
                    column_price[column] -= step
                else:
                    least[column] -= step
            at = nearest
        while at:
            row_of[at] = row_of[came_from[at]]
            at = came_from[at]
    pairs = [(row_of[column] - 1, column - 1) for column in range(1, columns + 1) if row_of[column]]
    return sorted((row, column) for row, column in pairs if costs[row][column] < IMPOSSIBLE)
