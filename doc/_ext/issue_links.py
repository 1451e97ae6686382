"""The role ``:issue:`owner/repository#number```, a link to an issue."""

from docutils import nodes


def issue(name, rawtext, text, lineno, inliner, options=None, content=None):
    repository, separator, number = text.partition("#")
    if repository.count("/") != 1 or not separator or not number.isdecimal():
        message = inliner.reporter.error(f"{text!r} is not owner/repository#number", line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]
    address = f"https://github.com/{repository}/issues/{number}"
    label = f"{repository.split('/')[1]} #{number}"
    return [nodes.reference(rawtext, label, refuri=address)], []


def setup(app):
    app.add_role("issue", issue)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
