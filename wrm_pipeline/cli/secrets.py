"""`wrm secrets`: where the secrets are, and putting them into Vault. No command prints a value."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pydantic import SecretStr

    from wrm_pipeline.vault.inventory import Entry, Inventory

# As vault.run_settings has them; it is not imported for a help text.
_PARTS = ("storage", "redis", "alerts", "privacy")


@click.group()
def secrets() -> None:
    """Secrets: where each one comes from, and putting them into Vault.

    With VAULT_ENABLED=true a run reads what the environment, .env and WRM_SECRETS_DIR do not set from Vault, below
    bike-data-flow/<WRM_ENV>/: storage (s3_access_key_id, s3_secret_access_key; also s3_endpoint_url, bucket_name,
    s3_region_name), redis (redis_url), alerts (wrm_alert_urls), privacy (wrm_pseudonym_key).

    put and migrate need a token that may write, such as one with the policy deploy/vault/operator.hcl; VAULT_TOKEN in
    the environment of the command wins over the pipeline's own login.
    """


@secrets.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def check(*, as_json: bool) -> None:
    """Show where each secret comes from, and what Vault says of the login.

    Every path is read and every value looked at, none is shown. Exit code 1 when something that is needed is nowhere,
    a value is one that would be refused, or Vault cannot be used.
    """
    from wrm_pipeline.vault.inventory import take_inventory

    found = take_inventory()
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _print_inventory(found)
    if found.problems:
        sys.exit(1)


@secrets.command()
@click.argument("path", type=click.Choice(_PARTS))
@click.argument("key")
@click.argument("value", nargs=-1, metavar="")  # taken only to say so: click's own message would show the secret
def put(path: str, key: str, value: tuple[str, ...]) -> None:
    """Write one secret: the value comes from standard input, or from a prompt that does not show it.

    PATH is storage, redis, alerts or privacy, below bike-data-flow/<WRM_ENV>/; KEY is a setting in lower case. The
    other keys of the path stay as they are, also when somebody else writes at the same time.

    \b
    wrm secrets put storage s3_secret_access_key
    openssl rand -hex 32 | wrm secrets put privacy wrm_pseudonym_key
    """  # noqa: D301 - a backspace is how click is told to keep the lines
    from wrm_pipeline.settings import load_settings
    from wrm_pipeline.vault.run_settings import PARTS, checked, vault_client

    if value:
        raise click.UsageError(
            "give the value on standard input or at the prompt: others can read arguments, and the shell keeps them"
        )
    name = key.lower()
    if name not in PARTS[path]:
        raise click.UsageError(f"{path} has no key {key!r}; it has {', '.join(PARTS[path])}")
    settings = load_settings()
    client = vault_client(settings)
    secret = _value_from_outside(name)
    full_path = settings.vault_path(path)
    if checked(name, secret, "standard input") is None:
        raise click.UsageError("the value is empty; nothing was written")
    changed = client.write(full_path, {name: secret})
    click.echo(f"{client.place(full_path)}: {name} {'written' if changed else 'was the same already'}")


@secrets.command()
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(".env"),
    show_default=True,
    help="The file whose secrets move; its VAULT_ADDR and WRM_ENV count, too.",
)
@click.option("--dry-run", is_flag=True, help="Only show what would move, and change nothing.")
@click.option("--overwrite", is_flag=True, help="Replace values in Vault that differ from the file's.")
def migrate(env_file: Path, *, dry_run: bool, overwrite: bool) -> None:
    """Move the secrets of a .env into Vault.

    They are written, read back and compared; then the file is rewritten in one step: their names stay with empty
    values, everything else stays as it is. When anything fails, nothing is taken out. May be run again.
    """
    from wrm_pipeline.settings import load_settings
    from wrm_pipeline.vault import migrate as migration
    from wrm_pipeline.vault.env_file import EnvFile
    from wrm_pipeline.vault.run_settings import vault_client

    file = EnvFile.read(env_file)
    settings = load_settings(_env_file=env_file)
    client = vault_client(settings)
    moves = migration.plan(client, settings, file)
    for move in moves:
        note = {"nothing": "new", "same": "already there", "other": "another value is there"}[move.there]
        click.echo(f"{move.key.upper()} -> {client.place(move.path)} {move.key} ({note})")
    if not moves:
        click.echo(f"{env_file} holds no secret that has a place in Vault.")
        return
    if dry_run:
        click.echo("Nothing was changed.")
        return
    values = [value for name, value in file.values().items() if name in {move.key for move in moves}]
    emptied = migration.migrate(client, settings, file, overwrite=overwrite)
    click.echo(f"{len(moves)} secrets are in Vault at {client.address}; {env_file} has their names only.")
    if lines := emptied.lines_with(values):
        where = ", ".join(map(str, lines))
        click.secho(f"wrm: one of these values is still on line {where} of {env_file}.", fg="yellow", err=True)
    if not settings.vault_enabled:
        click.echo("Set VAULT_ENABLED=true to have runs read them from there.")


def _value_from_outside(name: str) -> "SecretStr":
    from pydantic import SecretStr

    if sys.stdin.isatty():
        return SecretStr(click.prompt(name, hide_input=True, confirmation_prompt=True))
    try:
        return SecretStr(sys.stdin.read().rstrip("\r\n"))
    except UnicodeDecodeError:
        raise click.UsageError("standard input is not UTF-8 text; nothing was written") from None


def _print_inventory(found: "Inventory") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if found.vault is None:
        console.print("Vault is off (VAULT_ENABLED).")
    elif found.token is not None:
        token = found.token
        ends = "never ends" if token.ttl_s is None else f"ends in {token.ttl_s} s"
        login = "VAULT_TOKEN" if token.login == "token" else "AppRole"
        policies = ", ".join(token.policies) or "none"
        console.print(
            f"Vault at {found.vault}: logged in with {login}, policies {policies}; the token {ends}.", soft_wrap=True
        )
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in ("path", "key", "comes from"):
        table.add_column(column, overflow="fold")
    for entry in found.entries:
        table.add_row(entry.path.rpartition("/")[2], entry.key, _origin(entry, vault_is_on=found.vault is not None))
    console.print(table)
    for problem in found.problems:
        click.secho(f"wrm: {problem}", fg="red", err=True)


def _origin(entry: "Entry", *, vault_is_on: bool) -> str:
    if entry.source is None and entry.in_vault is None and vault_is_on:
        return "not known"
    if entry.source is None:
        return "missing" if entry.required else "not set"
    hidden = entry.in_vault and entry.source != "Vault"
    return f"{entry.source}, which hides the one in Vault" if hidden else entry.source
