"""An HTTP server over one pipeline: `python -m runtime serve BUNDLE`.

`app` has the routes, `contract` and `inline` what a request may say; `jobs`, `line` and `engine_thread` are its way to
the engines, `joined` is one run for several requests. Needs the extra `realcompo[serve]`.
"""
