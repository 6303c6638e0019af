"""What a person reads once a stack runs."""

from pathlib import Path

from deploy.local.settings import DEFAULT_DATA, StackSettings
from deploy.local.stack import ADMIN_FILE, Stack


def summary(stack: Stack, seconds: float) -> str:
    """Say where everything is and what to try first."""
    facts = {
        "Address": stack.address,
        "Documentation": f"{stack.address}/docs",
        "First admin": stack.admin_email,
        "Password": _password(stack),
        "Logs": f"{near(stack.logs)}/",
        "PostgreSQL": _database(stack),
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
            f"  {_data_prefix(stack.settings)}make demo",
            "",
            "or sign in yourself:",
            "",
            *_sign_in(stack),
            "",
            "Ctrl-C stops everything.",
        )
    )


def near(path: Path) -> str:
    """Return a path as seen from here when it is below here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def _password(stack: Stack) -> str:
    """Show a generated password in the one start that made the administrator, then its file."""
    administrator = stack.administrator
    if administrator is None or not administrator.password_matches:
        return "not known here: it was set at an earlier start, or changed since"
    if stack.settings.admin_password is not None:
        return "as set in CARNET_ADMIN_PASSWORD"
    file = near(stack.settings.data / ADMIN_FILE)
    if administrator.made:
        return f"{stack.admin_password}   (shown this once, kept in {file})"
    return f"kept in {file}"


def _database(stack: Stack) -> str:
    if stack.postgres is None or stack.postgres.runs_as is None:
        return ""
    return f"runs as user '{stack.postgres.runs_as}', because it refuses to run as root"


def _data_prefix(settings: StackSettings) -> str:
    if settings.data == Path(DEFAULT_DATA).resolve():
        return ""
    return f"CARNET_DATA={near(settings.data)} "


def _sign_in(stack: Stack) -> list[str]:
    """Write a command that signs in, without the password itself."""
    command = f"  curl -s {stack.address}/api/auth/login -H 'Content-Type: application/json' \\"
    administrator, settings = stack.administrator, stack.settings
    if administrator and administrator.password_matches and settings.admin_password is None:
        return [command, f"    -d @{near(settings.data / ADMIN_FILE)}"]
    password = "'\"$CARNET_ADMIN_PASSWORD\"'"  # noqa: S105
    return [
        command,
        f"""    -d '{{"email": "{stack.admin_email}", "password": "{password}"}}'""",
    ]
