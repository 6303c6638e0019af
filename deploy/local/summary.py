"""The text that `make run` prints when the stack runs."""

from pathlib import Path

from deploy.local.settings import DEFAULT_DATA
from deploy.local.stack import ADMIN_FILE, Stack


def summary(stack: Stack, seconds: float) -> str:
    """Return the addresses of a running stack and the first steps; it took `seconds` to start."""
    runs_as = stack.postgres.runs_as if stack.postgres else None
    is_default = stack.settings.data == Path(DEFAULT_DATA).resolve()
    facts = {
        "Address": stack.address,
        "Documentation": f"{stack.address}/docs",
        "First admin": stack.admin_email,
        "Password": _password(stack),
        "Second factor": "not required of administrators here (in production it is)",
        "Mailbox": stack.mailbox and f"{stack.mailbox.address}   (messages that were sent)",
        "Logs": f"{near(stack.logs)}/",
        "PostgreSQL": runs_as and f"runs as user '{runs_as}', because it refuses to run as root",
    }
    lines = [f"  {name:<15}{value}" for name, value in facts.items() if value]
    return "\n".join(
        (
            "",
            f"Carnet is ready, after {seconds:.1f} s.",
            "",
            *lines,
            "",
            "Try, in another terminal:",
            "",
            f"  {'' if is_default else f'CARNET_DATA={near(stack.settings.data)} '}make demo",
            "",
            "or sign in yourself:",
            "",
            *_sign_in(stack),
            "",
            "Ctrl-C stops everything.",
        )
    )


def near(path: Path) -> str:
    """Return a path relative to the working directory if it is below that."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _password(stack: Stack) -> str:
    """Show a generated password in the start that created the administrator, later its file."""
    administrator = stack.administrator
    if administrator is None or not administrator.password_matches:
        return "not known here: it was set at an earlier start, or was changed later"
    if stack.settings.admin_password is not None:
        return "as set in CARNET_ADMIN_PASSWORD"
    file = near(stack.settings.data / ADMIN_FILE)
    if administrator.made:
        return f"{stack.admin_password}   (shown only once, stored in {file})"
    return f"stored in {file}"


def _sign_in(stack: Stack) -> list[str]:
    """Return the lines of a command that signs in; they do not contain the password."""
    command = f"  curl -s {stack.address}/api/auth/login -H 'Content-Type: application/json' \\"
    administrator, settings = stack.administrator, stack.settings
    if administrator and administrator.password_matches and settings.admin_password is None:
        return [command, f"    -d @{near(settings.data / ADMIN_FILE)}"]
    password = "'\"$CARNET_ADMIN_PASSWORD\"'"  # noqa: S105
    return [
        command,
        f"""    -d '{{"email": "{stack.admin_email}", "password": "{password}"}}'""",
    ]
