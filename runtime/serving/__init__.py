"""An HTTP server over one pipeline, `python -m runtime serve BUNDLE`, and many: `serve run runtime.serving.ray:app`.

`app` has the routes, `contract` and `inline` what a request may say; `jobs`, `line` and `engine_thread` are its way to
the engines, `joined` is one run for several requests. `front` stands before many such applications, which `ray` puts on
many machines. Needs the extra `realcompo[serve]`, and `ray` needs `realcompo[ray]`.
"""
