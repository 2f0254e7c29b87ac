"""Finds where chance or the clock leak into code that is to run the same way every time from one seed.

A reading of the syntax tree, file by file: it knows names, not types, so a set that hides behind a function
of another file escapes it. What it names is a place to look at; the places that are sound are stated in
`test_leaks`.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

MODULES: dict[str, dict[str, frozenset[str]]] = {
    "time": {
        "clock": frozenset(
            f"{name}{unit}"
            for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time")
            for unit in ("", "_ns")
        )
        | {"sleep"}
    },
    "datetime.datetime": {"clock": frozenset({"now", "utcnow", "today"})},
    "uuid": {"chance": frozenset({"uuid1", "uuid4"})},
    "os": {"chance": frozenset({"urandom"}), "folder order": frozenset({"listdir", "scandir", "walk"})},
    "secrets": {"chance": frozenset({"token_bytes", "token_hex", "token_urlsafe", "randbelow", "choice"})},
    "asyncio": {"thread": frozenset({"to_thread"})},
    "threading": {"thread": frozenset({"Thread", "Timer"})},
    "glob": {"folder order": frozenset({"glob", "iglob"})},
}
"""By module, kind of leak: the names that leak."""
METHODS: dict[str, str] = {
    "run_in_executor": "thread",
    "ThreadPoolExecutor": "thread",
    "ProcessPoolExecutor": "thread",
    "iterdir": "folder order",
    "glob": "folder order",
    "rglob": "folder order",
}
"""By name of an attribute, whatever it is of."""
BLIND = frozenset({"sorted", "set", "frozenset", "sum", "any", "all", "min", "max", "len", "Counter", "fsum"})
"""What a collection may be given to in any order."""
ORDERED = frozenset(
    {"list", "tuple", "enumerate", "iter", "zip", "map", "filter", "reversed", "dict", "deque"}
)
TASKS = ("create_task", "ensure_future")
SETS = frozenset({"set", "frozenset"})


@dataclass(frozen=True)
class Leak:
    """One place: `kind` is one of clock, chance, thread, set order, folder order, hash, lost task."""

    kind: str
    line: int
    text: str


def leaks(source: str) -> list[Leak]:
    """Every leak of one file, in the order of its lines."""
    nodes: list[ast.AST] = [ast.parse(source)]
    for node in nodes:  # which grows meanwhile
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.expr_context | ast.operator | ast.cmpop | ast.boolop | ast.unaryop):
                child.parent = node  # type: ignore[attr-defined]
                nodes.append(child)
    found = [*_named(nodes), *_orders(nodes), *_tasks(nodes)]
    return sorted(found, key=lambda leak: (leak.line, leak.kind))


def _named(nodes: list[ast.AST]) -> Iterator[Leak]:
    """Clocks, chance, threads, hashes: leaks that have a name."""
    aliases = _aliases(nodes)
    for node in nodes:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "hash":
            yield _leak("hash", node)
        if isinstance(node, ast.Name | ast.Attribute) and not isinstance(_parent(node), ast.Attribute):
            module, _, name = _dotted(node, aliases).rpartition(".")
            yield from (_leak(kind, node) for kind in _kinds(module, name))


def _kinds(module: str, name: str) -> Iterator[str]:
    """The kinds of leak that `module.name` is."""
    if module == "random" and name != "Random":
        yield "chance"
    for kind, names in MODULES.get(module, {}).items():
        if name in names and kind != "folder order":
            yield kind
    if METHODS.get(name) == "thread":
        yield "thread"


def _orders(nodes: list[ast.AST]) -> Iterator[Leak]:
    """Sets and folders that are gone through in the order in which they happen to come."""
    known = _sets(nodes)
    for node in nodes:
        for taken in _gone_through(node):
            if _is_set(taken, known) and not _order_is_nothing(node):
                yield _leak("set order", taken)
        if isinstance(node, ast.Call) and _lists_folder(node) and not _order_is_nothing(node):
            yield _leak("folder order", node)


def _tasks(nodes: list[ast.AST]) -> Iterator[Leak]:
    for node in nodes:
        match node:
            case ast.Expr(value=ast.Call(func=func)) if _name(func) in TASKS and not _in_group(func):
                yield _leak("lost task", node)


def _in_group(func: ast.AST) -> bool:
    """A task group keeps its tasks itself."""
    return isinstance(func, ast.Attribute) and "group" in ast.unparse(func.value)


def _gone_through(node: ast.AST) -> Iterator[ast.expr]:
    """What this node takes one by one, in order."""
    match node:
        case ast.For(iter=taken) | ast.AsyncFor(iter=taken) | ast.YieldFrom(value=taken):
            yield taken
        case ast.Starred(value=taken, ctx=ast.Load()):
            yield taken
        case ast.ListComp() | ast.DictComp() | ast.GeneratorExp():
            yield from (generator.iter for generator in node.generators)
        case ast.Call(func=func, args=args) if _name(func) in ORDERED | {"join", "extend"}:
            yield from args


def _order_is_nothing(node: ast.AST) -> bool:
    """Whether what the node makes is given to something that looks at no order."""
    parent = _parent(node)
    while isinstance(parent, ast.GeneratorExp | ast.ListComp | ast.comprehension | ast.Starred):
        parent = _parent(parent)
    if isinstance(parent, ast.SetComp | ast.Set):
        return True
    if isinstance(parent, ast.Compare):
        return True
    return isinstance(parent, ast.Call) and _name(parent.func) in BLIND | {"update", "issubset", "union"}


def _lists_folder(call: ast.Call) -> bool:
    name = _name(call.func)
    if isinstance(call.func, ast.Attribute) and METHODS.get(name) == "folder order":
        return True
    return name in ("listdir", "scandir") and isinstance(call.func, ast.Attribute)


# Which names are sets --------------------------------------------------------------------------------


def _sets(nodes: list[ast.AST]) -> set[tuple[int, str]]:
    """Names that are made or annotated as sets: by scope for plain ones, everywhere for attributes."""
    known: set[tuple[int, str]] = set()
    for node in nodes:
        match node:
            case ast.AnnAssign(target=target, annotation=annotation) if _says_set(annotation):
                known.add(_key(target))
            case ast.arg(arg=name, annotation=annotation) if annotation is not None and _says_set(annotation):
                known.add((_scope(node), name))
            case ast.Assign(targets=targets, value=value) if _makes_set(value):
                known.update(_key(target) for target in targets)
            case ast.FunctionDef(name=name, returns=returns) if returns is not None and _says_set(returns):
                known.add((0, name))
    return known


def _key(target: ast.expr) -> tuple[int, str]:
    if isinstance(target, ast.Attribute):
        return (0, target.attr)
    name = target.id if isinstance(target, ast.Name) else ast.unparse(target)
    scope = _scope(target)
    return (0, name) if isinstance(_parent(target), ast.AnnAssign) and scope == -1 else (scope, name)


def _scope(node: ast.AST) -> int:
    """The function that the node is in, by its line; -1 outside of all."""
    parent = _parent(node)
    while parent is not None and not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        parent = _parent(parent)
    return -1 if parent is None else parent.lineno


def _says_set(annotation: ast.expr) -> bool:
    text = ast.unparse(annotation).strip("'\"")
    return text.split("[")[0].rpartition(".")[2] in ("set", "frozenset", "Set", "AbstractSet", "MutableSet")


def _makes_set(value: ast.AST) -> bool:
    match value:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=func):
            return _name(func.value if isinstance(func, ast.Subscript) else func) in SETS
    return False


def _is_set(value: ast.AST, known: set[tuple[int, str]]) -> bool:
    match value:
        case ast.BinOp(left=left, op=ast.BitAnd() | ast.BitOr() | ast.Sub() | ast.BitXor(), right=right):
            return _is_set(left, known) or _is_set(right, known) or _is_view(left) or _is_view(right)
        case ast.Name(id=name):
            return (_scope(value), name) in known or (-1, name) in known or (0, name) in known
        case ast.Attribute(attr=name):
            return (0, name) in known
        case ast.Call(func=ast.Attribute(attr="union" | "intersection" | "difference", value=of)):
            return _is_set(of, known)
        case ast.Call(func=ast.Attribute(attr=name, value=ast.Name(id="self"))):
            return (0, name) in known
        case ast.Call(func=ast.Name(id=name)):
            return name in SETS or (0, name) in known
    return _makes_set(value)


def _is_view(value: ast.AST) -> bool:
    return isinstance(value, ast.Call) and _name(value.func) in ("keys", "items") and not value.args


# Names -----------------------------------------------------------------------------------------------


def _aliases(nodes: list[ast.AST]) -> dict[str, str]:
    """What the file calls a module, or a name that it imports from one."""
    known: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            known |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            known |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return known


def _parent(node: ast.AST) -> ast.AST | None:
    return getattr(node, "parent", None)


def _dotted(node: ast.AST, aliases: dict[str, str]) -> str:
    """The full name of `a.b.c`, with what `a` was imported as; of anything else only its last part."""
    match node:
        case ast.Name(id=name):
            return aliases.get(name, name)
        case ast.Attribute(value=ast.Name() | ast.Attribute() as value, attr=name):
            return f"{_dotted(value, aliases)}.{name}"
        case ast.Attribute(attr=name):
            return name
    return ""


def _name(func: ast.AST) -> str:
    match func:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _leak(kind: str, node: ast.AST) -> Leak:
    return Leak(kind, getattr(node, "lineno", 0), ast.unparse(node)[:80])
