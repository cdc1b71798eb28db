"""The regions' signatures of the agreement, as they reach the hub; the hub's own is one of them.

Whoever keeps one has checked it (`crossing.signatures`).  Every method is one transaction, durable
when it returns.
"""

from __future__ import annotations

from sqlalchemy import Column, Engine, LargeBinary, MetaData, String, Table, delete, insert, select

_METADATA = MetaData()
_SIGNATURES = Table(
    "hub_signatures",
    _METADATA,
    Column("agreement", String, primary_key=True),
    Column("region", String, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
)


class Signatures:
    """Signatures by agreement and region, over one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(reads_only=True)
        _METADATA.create_all(engine)

    def keep(self, *, agreement: str, region: str, envelope: bytes) -> None:
        with self._engine.begin() as db:
            db.execute(
                delete(_SIGNATURES).where(
                    _SIGNATURES.c.agreement == agreement, _SIGNATURES.c.region == region
                )
            )
            db.execute(
                insert(_SIGNATURES).values(agreement=agreement, region=region, envelope=envelope)
            )

    def of(self, agreement: str) -> dict[str, bytes]:
        with self._reads.connect() as db:
            rows = db.execute(select(_SIGNATURES).where(_SIGNATURES.c.agreement == agreement)).all()
        return {row.region: row.envelope for row in rows}
