"""Finding handlers in folders as people have them."""

from __future__ import annotations

import email
import os
import queue
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from tasker.worker import (
    DuplicateHandlerError,
    HandlerDefinitionError,
    HandlerImportError,
    HandlerRegistry,
    load_handlers,
)
from tasker.worker.handlers import importing


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder; what a test imports from it is forgotten afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    folder = tmp_path / "shelf"
    folder.mkdir()
    yield folder
    for name in sorted(set(sys.modules) - known, reverse=True):  # those of a package before it
        module = sys.modules[name]
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", ())]
        if any(str(place).startswith(str(tmp_path)) for place in places):
            del sys.modules[name]


def write(path: Path, source: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("from tasker.worker import StepHandler, step_handler\n" + dedent(source))
    return path


def handler(name: str) -> str:
    return f"@step_handler({name!r})\ndef handle():\n    return {{'by': {name!r}}}\n"


def test_folders_may_have_names_of_the_standard_library(shelf: Path) -> None:
    write(shelf / "email" / "__init__.py", "from .texts import TEXT\n" + handler("in_email"))
    write(shelf / "email" / "texts.py", "TEXT = 'hello'")
    write(shelf / "queue" / "jobs.py", handler("in_queue"))
    write(shelf / "calendar.py", handler("in_calendar"))
    registry = load_handlers(shelf)
    assert registry.callables() == ("in_calendar", "in_email", "in_queue")
    assert registry.problems == []
    assert sys.modules["email"] is email
    assert sys.modules["queue"] is queue


def test_the_standard_library_is_never_replaced_by_a_folder_of_handlers(shelf: Path) -> None:
    """Also not for whoever imports it later."""
    write(shelf / "colorsys.py", handler("in_colorsys"))
    write(shelf / "plain.py", "import colorsys\nassert colorsys.rgb_to_hsv\n" + handler("plain"))
    del_again = sys.modules.pop("colorsys", None)
    try:
        registry = load_handlers(shelf)
        assert (registry.callables(), registry.problems) == (("in_colorsys", "plain"), [])
    finally:
        sys.modules.pop("colorsys", None)
        if del_again is not None:
            sys.modules["colorsys"] = del_again


def test_folders_need_no_init_file_at_any_depth(shelf: Path) -> None:
    write(shelf / "billing" / "invoice.py", handler("invoice"))
    write(shelf / "billing" / "charges" / "__init__.py", handler("charges"))
    write(shelf / "orders" / "__init__.py", handler("orders"))
    write(shelf / "orders" / "returns" / "late.py", handler("late"))
    write(shelf / "my-dash.py", handler("dash"))
    write(shelf / ".hidden" / "secret.py", handler("secret"))
    write(shelf / "env" / "lib" / "installed.py", handler("installed"))
    (shelf / "env" / "pyvenv.cfg").touch()
    registry = load_handlers(shelf)
    assert registry.callables() == ("charges", "dash", "invoice", "late", "orders")
    assert registry.problems == []


@pytest.mark.parametrize("where", ["flat.py", "."])
def test_modules_of_a_folder_may_import_each_other_with_a_dot(shelf: Path, where: str) -> None:
    write(shelf / "plain.py", handler("plain"))
    write(shelf / "flat.py", "from .plain import handle as other\n" + handler("flat"))
    write(shelf / "deep" / "deeper.py", "from ..plain import handle as other\n" + handler("deeper"))
    registry = load_handlers(shelf / where)
    assert registry.problems == []
    assert {"flat", "plain"} <= set(registry.callables())
    assert ("deeper" in registry) == (where == ".")


def test_a_module_that_is_imported_with_and_without_a_dot_is_no_rival_of_itself(shelf: Path) -> None:
    source = (
        "class Pay(StepHandler):\n    handler_name = 'pay'\n    def call(self, context):\n        return {}\n"
    )
    write(shelf / "plain.py", handler("plain") + source)
    write(shelf / "dotted.py", "from .plain import Pay, handle")
    write(shelf / "dotless.py", "from plain import Pay, handle")
    registry = load_handlers(shelf)
    assert (registry.callables(), registry.problems) == (("pay", "plain"), [])


def test_a_file_and_a_folder_of_one_name_are_both_found(shelf: Path) -> None:
    write(shelf / "orders.py", handler("file"))
    write(shelf / "orders" / "__init__.py", handler("package"))
    write(shelf / "bills.py", handler("bills"))
    write(shelf / "bills" / "late.py", handler("late"))
    assert load_handlers(shelf).callables() == ("bills", "file", "late", "package")


def test_a_name_that_cannot_be_imported_is_told(shelf: Path) -> None:
    write(shelf / "plain.py", handler("plain"))
    write(shelf / "v1.2.py", handler("file"))
    write(shelf / "v2.0" / "late.py", handler("folder"))
    write(shelf / "orders" / "__init__.py")
    write(shelf / "orders" / "v3.1.py", handler("inside"))
    registry = load_handlers(shelf)
    assert registry.callables() == ("plain",)
    assert sorted(Path(problem.where).name for problem in registry.problems) == [
        "orders.v3.1",
        "v1.2.py",
        "v2.0",
    ]
    assert all("has a dot in its name" in str(problem) for problem in registry.problems)


def test_handlers_that_no_name_of_the_module_holds_are_found(shelf: Path) -> None:
    write(shelf / "made.py", "def make(name):\n    step_handler(name)(lambda: {})\n")
    write(
        shelf / "loops.py",
        """
        from made import make

        for name in ("loop.a", "loop.b"):
            step_handler(name)(lambda: {})
        make("made.c")
        HANDLERS = [step_handler("listed.d")(lambda: {})]
        MORE = {"e": [step_handler("mapped.e")(lambda: {})]}

        for number in (1, 2):
            class Numbered(StepHandler):
                handler_name = f"numbered.{number}"
                def call(self, context):
                    return {}

        class Mail(StepHandler):
            def __init__(self, host):
                self.handler_name = f"mail.{host}"
            def call(self, context):
                return {}

        MAILS = {host: Mail(host) for host in ("a", "b")}
        """,
    )
    registry = load_handlers(shelf)
    assert registry.problems == []
    assert registry.callables() == (
        "listed.d", "loop.a", "loop.b", "made.c", "mail.a", "mail.b", "mapped.e", "numbered.1", "numbered.2",
    )  # fmt: skip


def test_a_class_that_a_decorator_makes_anew_is_one_handler(shelf: Path) -> None:
    write(
        shelf / "slotted.py",
        """
        from dataclasses import dataclass

        @dataclass(slots=True)
        class Pay(StepHandler):
            handler_name = "pay"
            config: dict
            def call(self, context):
                return {}
        """,
    )
    assert load_handlers(shelf).callables() == ("pay",)


def test_a_name_that_is_given_twice_is_told_with_both_places(shelf: Path) -> None:
    file = write(shelf / "twice.py", handler("pay") + handler("pay"))
    with pytest.raises(DuplicateHandlerError) as caught:
        load_handlers(shelf)
    assert f"{file}:2" in str(caught.value)
    assert f"{file}:5" in str(caught.value)


def test_a_module_that_is_loaded_again_defines_anew(shelf: Path) -> None:
    import importlib

    write(shelf / "reloaded.py", handler("pay"))
    load_handlers(shelf)
    importlib.reload(sys.modules["reloaded"])
    assert load_handlers(shelf).callables() == ("pay",)


def test_what_does_not_import_is_told_with_file_line_and_traceback(shelf: Path) -> None:
    write(shelf / "plain.py", handler("plain"))
    broken = write(shelf / "broken.py", "def inner():\n    raise RuntimeError('on purpose')\ninner()\n")
    wrong = write(shelf / "wrong.py", "def f(:\n")
    registry = load_handlers(shelf)
    told = {Path(problem.where).name: problem for problem in registry.problems}
    assert f"on purpose ({broken}:3)" in str(told["broken.py"])
    assert f"({wrong}:2)" in str(told["wrong.py"])
    traceback = told["broken.py"].traceback
    assert traceback is not None
    assert traceback.splitlines()[0] == "Traceback (most recent call last):"
    assert [line.split(",")[0].strip() for line in traceback.splitlines() if ", line " in line] == [
        f'File "{broken}"'
    ] * 2


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("import asyncio\nasyncio.run(print('no'))\n", "line 3 runs a program"),
        ("import sys\nsys.exit('no settings')\n", "SystemExit: no settings"),
        ("import os\nos._exit(0)\n", "it ends the process when it is imported: os._exit(0)"),
        ("class Odd(BaseException): pass\nraise Odd('odd')\n", "Odd: odd"),
    ],
)
def test_a_module_that_is_a_program_is_left_out(
    shelf: Path, source: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(shelf / "plain.py", handler("plain"))
    write(shelf / "orders" / "__init__.py", handler("orders"))
    write(shelf / "script.py", source)
    write(shelf / "orders" / "script.py", source)
    registry = load_handlers(shelf)
    assert registry.callables() == ("orders", "plain")
    assert len(registry.problems) == 2
    assert all(told in str(problem) for problem in registry.problems)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "loop", ["while True: time.sleep(1)", "while True:\n  try: time.sleep(1)\n  except Exception: pass"]
)
def test_a_module_that_never_returns_is_left_out(
    shelf: Path, loop: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "IMPORT_SECONDS", 0.05)
    write(shelf / "plain.py", handler("plain"))
    serve = write(shelf / "serve.py", f"import time\n{loop}\n")
    registry = load_handlers(shelf)
    assert registry.callables() == ("plain",)
    (problem,) = registry.problems
    assert "it has not returned for 0.05 s" in str(problem)
    assert f"({serve}:" in str(problem)


def test_a_module_may_have_children_that_exit(shelf: Path) -> None:
    forking = """
        import os
        child = os.fork()
        if child == 0:
            os._exit(7)
        STATUS = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        """
    write(shelf / "forks.py", dedent(forking) + handler("forks"))
    leave = os._exit
    assert load_handlers(shelf).callables() == ("forks",)
    assert sys.modules["forks"].STATUS == 7
    assert os._exit is leave


def test_a_place_with_nothing_but_a_program_stops_the_start(shelf: Path) -> None:
    file = write(shelf / "create.py", "import asyncio\nasyncio.run(main())\n")
    for where in (shelf, file):
        with pytest.raises(HandlerImportError, match=r'put that under `if __name__ == "__main__":`'):
            load_handlers(where)


def test_wrapped_handlers_are_still_refused(shelf: Path) -> None:
    write(
        shelf / "wrapped.py",
        """
        import functools

        def logged(function):
            @functools.wraps(function)
            def wrapper(*args): return function(*args)
            return wrapper

        @logged
        @step_handler("pay")
        def pay(): return {}
        """,
    )
    with pytest.raises(HandlerDefinitionError, match="would never run"):
        load_handlers(shelf)


def test_what_a_program_defines_while_it_runs_is_not_kept(shelf: Path) -> None:
    """Nor does it hold on to what its functions define."""
    script = write(
        shelf / "script.py",
        """
        import sys
        from tasker.worker import HandlerRegistry

        def define():
            step_handler("inner")(lambda: {})

        define()
        print(len(HandlerRegistry().discover(sys.modules["__main__"]).handlers))
        """,
    )
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert said.stdout == "0\n"
    assert HandlerRegistry().discover(sys.modules[__name__]).handlers == ()
