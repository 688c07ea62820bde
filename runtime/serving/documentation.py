"""OpenAPI, and a page of it without scripts: a strict Content-Security-Policy leaves no room for the usual one."""

from html import escape
from typing import Any

from fastapi import FastAPI

from runtime.serving.bundle import Bundle
from runtime.serving.contract import generation_schema

TITLE = "RealCompo: what the server answers"


def describe(app: FastAPI, bundle: Bundle) -> None:
    """Add to the application's OpenAPI what its body says, which is read by hand.

    Raises:
        RealCompoError: what the bundle's distilled model wants is no option.
    """
    made, found = app.openapi, generation_schema(bundle)

    def openapi() -> dict[str, Any]:
        document = made()
        schema = dict(found)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas |= schema.pop("$defs", {})
        schemas["Generation"] = schema
        body = {
            "required": True,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Generation"}}},
        }
        document["paths"]["/v1/images/generations"]["post"]["requestBody"] = body
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def documentation_page(document: dict[str, Any]) -> str:
    routes = "".join(
        _row(f"{method.upper()} {path}", route["summary"])
        for path, methods in document["paths"].items()
        for method, route in methods.items()
    )
    tables = "".join(_table(name, schema) for name, schema in document["components"]["schemas"].items())
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{TITLE}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/static/page.css"></head>'
        f'<body class="documentation"><h1>{TITLE}</h1><table>{routes}</table>{tables}'
        '<p>The same for programs: <a href="/openapi.json">/openapi.json</a></p></body></html>'
    )


def _table(name: str, schema: dict[str, Any]) -> str:
    about = escape(schema.get("description", ""))
    rows = "".join(_row(field, _about(field, spec, schema)) for field, spec in schema.get("properties", {}).items())
    return f'<h2 id="{escape(name)}">{escape(name)}</h2><p>{about}</p><table>{rows}</table>' if rows else ""


def _about(field: str, spec: dict[str, Any], schema: dict[str, Any]) -> str:
    limits = [f"{word} {spec[word]}" for word in ("minimum", "maximum", "maxLength", "maxItems") if word in spec]
    default = [] if field in schema.get("required", ()) else [f"default {spec.get('default')}"]
    return " ".join(
        filter(None, (spec.get("description", ""), f"({', '.join((*limits, *default))})" if limits or default else ""))
    )


def _row(name: str, about: str) -> str:
    return f"<tr><th scope=row><code>{escape(name)}</code></th><td>{escape(about)}</td></tr>"
