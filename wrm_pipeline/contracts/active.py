"""The contracts this process works by: the package's, or those that WRM_CONTRACTS_DIR puts in their place."""

import functools

from wrm_pipeline.contracts.load import load_contracts
from wrm_pipeline.contracts.model import Contracts
from wrm_pipeline.settings import load_settings


@functools.cache
def active_contracts() -> Contracts:
    """Read them, once a process.

    Raises:
        ContractError: one is malformed; the message names file and line.
        SettingsError: the directory does not exist.
    """
    return load_contracts(load_settings().wrm_contracts_dir)
