"""What the command lines share: options made of knobs, one plain line for what a user can mend, exit codes."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, TypeVar, get_args, get_origin

import typer
from rich.table import Column, Table

from runtime.errors import RealCompoError
from runtime.knobs import Knob
from runtime.messages import one_line

F = TypeVar("F", bound=Callable[..., Any])


def with_options(knobs: Mapping[str, Knob]) -> Callable[[F], F]:
    """Give a command an option for each knob, in the place of its `**knobs`."""

    def add(command: F) -> F:
        signature = inspect.signature(command)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        parameters = [*own, *map(_parameter, knobs.values())]
        command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ |= {one.name: one.annotation for one in parameters}
        return command

    return add


def knob_values(knobs: Mapping[str, Knob], given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given for knobs on a command line, as calls take it: one number of a repeated option is for all."""
    asked = {name: value for name, value in given.items() if not (_is_many(knobs[name]) and not value)}
    return {
        name: value[0] if _is_many(knobs[name]) and float in get_args(knobs[name].type) and len(value) == 1 else value
        for name, value in asked.items()
    }


def knobs_on_command_line(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the values of knobs, those that the user has given."""
    sources = {name: context.get_parameter_source(name) for name in values}
    return {name: value for name, value in values.items() if (source := sources[name]) and source.name != "DEFAULT"}


def _parameter(knob: Knob) -> inspect.Parameter:
    default = None if _is_many(knob) else knob.default
    annotation: Any = Annotated[_type(knob), typer.Option(help=_help(knob))]
    return inspect.Parameter(knob.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _help(knob: Knob) -> str:
    """typer adds the default of what can be given but once."""
    if not _is_many(knob):
        return f"{knob.help} Default: {knob.unset}." if knob.unset else knob.help
    return f"{knob.help} Repeat it for several. Default: {knob.unset or f'{knob.default:g}'}."


def _is_many(knob: Knob) -> bool:
    return any(get_origin(one) is Sequence for one in (knob.type, *get_args(knob.type)))


def _type(knob: Knob) -> Any:
    """What typer makes an option of."""
    if not _is_many(knob):
        return knob.type
    return list[float] | None if float in get_args(knob.type) else list[str] | None


def folding_table(*columns: str | Column, **options: Any) -> Table:
    """A table for a terminal of any width: what does not fit goes on below, where rich would cut it off."""
    table = Table(*columns, **options)
    for column in table.columns:
        column.overflow = "fold"
    return table


@contextmanager
def plain_errors(interrupted: str = "interrupted") -> Iterator[None]:
    """Instead of a traceback, one line on stderr: exit code 2 for a RealCompoError, 130 for Ctrl-C."""
    warnings.showwarning = lambda message, *_, **__: typer.echo(one_line(f"warning: {message}"), err=True)
    try:
        yield
    except RealCompoError as error:
        _exit(one_line(f"error: {error}"), 2)
    except KeyboardInterrupt:
        _exit(interrupted, 130)


def _exit(line: str, code: int) -> None:
    typer.echo(line, err=True)
    raise typer.Exit(code)
