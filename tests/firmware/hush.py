"""Just enough of U-Boot's hush to run the part of boot.cmd that chooses a slot: setenv, test, true, if/elif/else, for, ||. Anything else is refused."""

from __future__ import annotations

import re
import shlex


class NotUnderstood(Exception):
    pass


class Hush:
    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = dict(environment)

    def run(self, script: str) -> None:
        words = []
        for line in script.splitlines():
            if line.lstrip().startswith("#"):
                continue
            words += [word for word in _split(line) if word] + [";"]
        self._list(words, 0, len(words))

    # A list of commands, from `at` up to `end`.
    def _list(self, words: list[str], at: int, end: int) -> None:
        while at < end:
            if words[at] == ";":
                at += 1
            elif words[at] == "if":
                at = self._if(words, at, end)
            elif words[at] == "for":
                at = self._for(words, at)
            else:
                stop = at
                while stop < end and words[stop] != ";":
                    stop += 1
                self._command(words[at:stop])
                at = stop

    def _if(self, words: list[str], at: int, end: int) -> int:
        close = _matching(words, at, "if", "fi")
        done, begin = False, at + 1
        while True:
            then = _next(words, begin, close, ("then",))
            stop = _next(words, then + 1, close, ("elif", "else", "fi"))
            if not done and self._condition(words[begin:then]):
                self._list(words, then + 1, stop)
                done = True
            if words[stop] == "fi":
                return stop + 1
            if words[stop] == "else":
                last = _next(words, stop + 1, close, ("fi",))
                if not done:
                    self._list(words, stop + 1, last)
                return last + 1
            begin = stop + 1

    def _for(self, words: list[str], at: int) -> int:
        name = words[at + 1]
        do = words.index("do", at)
        done = _matching(words, at, "for", "done")
        values = " ".join(self._expanded(word) for word in words[at + 3 : do] if word != ";").split()
        for value in values:
            self.environment[name] = value
            self._list(words, do + 1, done)
        return done + 1

    def _condition(self, words: list[str]) -> bool:
        return self._command([word for word in words if word != ";"])

    def _command(self, words: list[str]) -> bool:
        if "||" in words:
            at = words.index("||")
            return self._command(words[:at]) or self._command(words[at + 1 :])
        arguments = [self._expanded(word) for word in words]
        match arguments:
            case ["true"]:
                return True
            case ["setenv", name]:
                self.environment.pop(name, None)
                return True
            case ["setenv", name, value]:
                self.environment[name] = value
                return True
            case ["test", "-n", text]:
                return text != ""
            case ["test", "-z", text]:
                return text == ""
            case ["test", left, "=", right]:
                return left == right
        raise NotUnderstood(words)

    def _expanded(self, word: str) -> str:
        text = re.sub(r"\$\{(\w+)\}", lambda match: self.environment.get(match[1], ""), word)
        return text[1:-1] if text.startswith('"') else text


def _split(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=False, punctuation_chars=";|")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def _matching(words: list[str], at: int, opening: str, closing: str) -> int:
    depth = 0
    for place in range(at, len(words)):
        depth += (words[place] == opening) - (words[place] == closing)
        if depth == 0:
            return place
    raise NotUnderstood(f"{opening} without {closing}")


def _next(words: list[str], at: int, end: int, wanted: tuple[str, ...]) -> int:
    depth = 0
    for place in range(at, end + 1):
        if depth == 0 and words[place] in wanted:
            return place
        depth += (words[place] == "if") - (words[place] == "fi")
    raise NotUnderstood(wanted)
