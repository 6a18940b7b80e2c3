"""The Arrow schemas of processed and enhanced, made from the contracts that come with the package."""

from typing import Final

import pyarrow as pa

from wrm_pipeline.contracts.load import packaged_contracts
from wrm_pipeline.contracts.model import Contract


def arrow_schema(contract: Contract) -> pa.Schema:
    """Return the Arrow schema of a contract's columns."""
    return pa.schema([pa.field(c.name, c.type, nullable=c.nullable) for c in contract.columns])


PROCESSED: Final = arrow_schema(packaged_contracts().processed)
ENHANCED: Final = arrow_schema(packaged_contracts().enhanced)
